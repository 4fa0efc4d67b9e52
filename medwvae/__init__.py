"""Wavelet-VAEs for restoring MRI and CT."""
