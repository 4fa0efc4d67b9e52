"""Physics of the measurements: what the scanner would have given, and how to stay true to it ([docs](physics.md)).

Every image batch is (B, C, *spatial): C = 1 for a real (magnitude) image, C = 2 for the real and imaginary parts of a
complex one. An `Operator` knows its adjoint and how to project an image onto the data; a `Measurement` is what a
restoration method gets: a start image, the data and their operator.
"""

from medwvae.operators.base import Operator
from medwvae.operators.beams import Beam, fan_beam, parallel_beam
from medwvae.operators.cartesian import sample_kspace
from medwvae.operators.coils import CoilSampling, birdcage_maps, espirit_maps, low_resolution_maps
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
from medwvae.operators.inpainting import Masking, block_mask, missing_slices_mask, streak_mask
from medwvae.operators.masks import Pattern, cartesian_mask, partial_fourier_mask, poisson_disc_mask
from medwvae.operators.measurement import CONDITIONS, Measurement, NoiseLaw
from medwvae.operators.noise import (
    anscombe,
    complex_gaussian,
    gaussian,
    inverse_anscombe,
    low_dose,
    poisson,
    remove_rician_bias,
    rician,
    rician_mean,
)
from medwvae.operators.phase import smooth_phase, with_phase
from medwvae.operators.radial import RadialSampling, radial_trajectory
from medwvae.operators.radon import Radon
from medwvae.operators.resampling import Profile, Resampling, bicubic, through_plane

__all__ = [
    "CONDITIONS",
    "Beam",
    "CoilSampling",
    "FourierSampling",
    "Masking",
    "Measurement",
    "NoiseLaw",
    "Operator",
    "Pattern",
    "Profile",
    "RadialSampling",
    "Radon",
    "Resampling",
    "anscombe",
    "as_complex",
    "bicubic",
    "birdcage_maps",
    "block_mask",
    "cartesian_mask",
    "complex_gaussian",
    "espirit_maps",
    "fan_beam",
    "from_centred",
    "from_kspace",
    "gaussian",
    "inverse_anscombe",
    "low_dose",
    "low_frequency_phasor",
    "low_resolution_maps",
    "magnitude",
    "missing_slices_mask",
    "parallel_beam",
    "partial_fourier_mask",
    "poisson",
    "poisson_disc_mask",
    "radial_trajectory",
    "remove_rician_bias",
    "rician",
    "rician_mean",
    "sample_kspace",
    "smooth_phase",
    "streak_mask",
    "through_plane",
    "to_kspace",
    "truncation_mask",
    "with_phase",
]
