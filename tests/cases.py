"""Synthetic prepared volumes for the tests of training, restoration and evaluation."""

import numpy as np

from medwvae.data.loaders import Case
from medwvae.data.transforms import Prepared
from medwvae.intensity import LinearScaling


def ellipsoid(shape, fraction=0.4):
    """Bool volume: an ellipsoid whose half axes are `fraction` of the sides."""
    grids = np.meshgrid(*((np.arange(n) - (n - 1) / 2) / (fraction * n) for n in shape), indexing="ij")
    return sum(g**2 for g in grids) <= 1


def head_like(shape, seed=0):
    """Return a textured float32 volume in [0, 1.2], zero outside its ellipsoid, and the ellipsoid."""
    head = ellipsoid(shape)
    rng = np.random.default_rng(seed)
    waves = sum(np.cos(np.arange(n) * rng.uniform(0.3, 0.9)).reshape(-1, *[1] * (2 - i)) for i, n in enumerate(shape))
    return ((0.8 + 0.12 * waves) * head).astype(np.float32), head


def encoder_of(model):
    """Return the first encoder of a Wavelet-VAE."""
    return model.encoders[0]


def case(name="one", shape=(9, 24, 20), seed=0, axis=2, subject=None):
    """Return a prepared volume of a subject."""
    image, head = head_like(shape, seed)
    return Case(name, subject or name, "t1w", Prepared(image, head, LinearScaling(0.0, 400.0), axis, np.eye(4)))
