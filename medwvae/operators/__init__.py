"""Physics of the measurements: what the scanner would have given, and how to stay true to it ([docs](physics.md)).

Every image batch is (B, C, *spatial): C = 1 for a real (magnitude) image, C = 2 for the real and imaginary parts of a
complex one. An `Operator` knows its adjoint and how to project an image onto the data; a `Measurement` is what a
restoration method gets: a start image, the data and their operator.
"""

from medwvae.operators.base import Operator
from medwvae.operators.cartesian import sample_kspace
from medwvae.operators.fourier import (
    FourierSampling,
    as_complex,
    from_centred,
    from_kspace,
    low_frequency_phasor,
    magnitude,
    to_kspace,
    truncation_mask,
)
from medwvae.operators.masks import Pattern, cartesian_mask, partial_fourier_mask, poisson_disc_mask
from medwvae.operators.measurement import Measurement, NoiseLaw
from medwvae.operators.noise import (
    complex_gaussian,
    gaussian,
    low_dose,
    poisson,
    remove_rician_bias,
    rician,
    rician_mean,
)
from medwvae.operators.phase import smooth_phase, with_phase

__all__ = [
    "FourierSampling",
    "Measurement",
    "NoiseLaw",
    "Operator",
    "Pattern",
    "as_complex",
    "cartesian_mask",
    "complex_gaussian",
    "from_centred",
    "from_kspace",
    "gaussian",
    "low_dose",
    "low_frequency_phasor",
    "magnitude",
    "partial_fourier_mask",
    "poisson",
    "poisson_disc_mask",
    "remove_rician_bias",
    "rician",
    "rician_mean",
    "sample_kspace",
    "smooth_phase",
    "to_kspace",
    "truncation_mask",
    "with_phase",
]
