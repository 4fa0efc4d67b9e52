"""Damaged DICOM and NIfTI, made by chance, for the reader to refuse: `python -m tests.fuzz --runs 100000 --seed N`."""
