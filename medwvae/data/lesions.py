"""Masks of lesions that the user gives, on the grid of the canonical volumes."""

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medwvae.data.transforms import Prepared
from medwvae.errors import InputError


def read_lesions(folder: Path, volume: str, prepared: Prepared) -> NDArray[np.bool_] | None:
    """Return the lesion mask of a volume as slices (S, H, W), or None where it has none.

    Parameters
    ----------
    folder : Path
        Holds `<volume>.nii.gz` or `<volume>.nii`, any orientation; what is above .5 is lesion.

    Raises
    ------
    InputError
        If a mask cannot be read, or does not lie on the volume's grid.
    """
    path = next((p for suffix in (".nii.gz", ".nii") if (p := folder / f"{volume}{suffix}").is_file()), None)
    if path is None:
        return None
    try:
        image = nib.as_closest_canonical(nib.load(path))
        mask = np.asarray(image.dataobj) > 0.5
    except Exception as error:  # nibabel raises what the format's own errors are, and zlib's
        raise InputError(f"the lesion mask of {volume} cannot be read as NIfTI; write it again") from error
    expected = np.moveaxis(prepared.head, 0, prepared.axis).shape
    if mask.shape != expected or not np.allclose(image.affine, prepared.affine, atol=1e-2):
        raise InputError(
            f"the lesion mask of {volume} has the grid {mask.shape}, its volume {expected}, or it lies elsewhere; "
            "resample it to the volume in canonical/"
        )
    return np.ascontiguousarray(np.moveaxis(mask, prepared.axis, 0))
