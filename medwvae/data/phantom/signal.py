"""From tissues to images: the spin-echo and inversion-recovery equations for MR, Hounsfield units for CT."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from medwvae.data.phantom.anatomy import Head
from medwvae.data.phantom.shapes import Volume
from medwvae.names import Contrast


@dataclass(frozen=True)
class Tissue:
    """Proton density (relative), T1 and T2 (ms, near 1.5 T), CT number (HU), HU per relative change of water."""

    pd: float
    t1: float
    t2: float
    hu: float
    hu_slope: float = -60.0


TISSUES: Final[dict[str, Tissue]] = {
    "air": Tissue(0.0, 1000, 100, -1000, 0),
    "csf": Tissue(1.00, 4200, 1900, 8),
    "white": Tissue(0.70, 600, 72, 28),
    "grey": Tissue(0.81, 1200, 95, 38),
    "deep": Tissue(0.79, 1020, 84, 38),
    "pallidum": Tissue(0.75, 800, 66, 40),
    "lesion": Tissue(0.86, 1300, 170, 22),
    "blood": Tissue(0.12, 1200, 50, 52, 20),  # flowing: a void on spin echo
    "dura": Tissue(0.35, 900, 35, 62, 0),
    "bone": Tissue(0.06, 500, 8, 1250, 2500),
    "marrow": Tissue(0.45, 380, 60, 480, 1200),
    "fat": Tissue(0.72, 330, 85, -95, 120),
    "muscle": Tissue(0.72, 950, 42, 55, 60),
    "skin": Tissue(0.60, 750, 38, 45, 0),
    "vitreous": Tissue(0.99, 3900, 1400, 10, 0),
    "lens": Tissue(0.65, 1000, 35, 80, 0),
}


@dataclass(frozen=True)
class Protocol:
    """Acquisition parameters of one series: times in ms, flip angle in degrees; `ti` is 0 without inversion."""

    tr: float
    te: float
    ti: float = 0.0
    flip: float = 90.0

    def signal(self, tissue: Tissue) -> float:
        """Return the magnitude of the (inversion-recovery) spin-echo signal, relative to water at rest."""
        recovery = 1 - np.exp(-self.tr / tissue.t1)
        if self.ti:
            recovery = 1 - 2 * np.exp(-self.ti / tissue.t1) + np.exp(-self.tr / tissue.t1)
        return float(tissue.pd * abs(recovery) * np.exp(-self.te / tissue.t2))


PROTOCOLS: Final[dict[Contrast, Protocol]] = {
    "t1w": Protocol(tr=500, te=12),
    "t2w": Protocol(tr=4500, te=100),
    "pdw": Protocol(tr=2800, te=20),
    "flair": Protocol(tr=9000, te=110, ti=2440),
}


def draw_protocol(contrast: Contrast, rng: np.random.Generator) -> Protocol:
    """Return the nominal sequence with the small differences between protocols."""
    nominal = PROTOCOLS[contrast]
    # The inversion time hardly moves: it has to null CSF.
    return Protocol(
        tr=round(nominal.tr * rng.uniform(0.93, 1.07), 1),
        te=round(nominal.te * rng.uniform(0.93, 1.07), 1),
        ti=round(nominal.ti * rng.uniform(0.99, 1.01), 1),
    )


def draw_tissues(rng: np.random.Generator) -> dict[str, Tissue]:
    """Return one subject's tissues: relaxation and density a few percent from the table."""
    drawn = {}
    for name, tissue in TISSUES.items():
        pd, t1, t2 = np.clip(rng.standard_normal(3), -2, 2) * (0.01, 0.025, 0.025)
        drawn[name] = replace(tissue, pd=tissue.pd * (1 + pd), t1=tissue.t1 * (1 + t1), t2=tissue.t2 * (1 + t2))
    return drawn


def mr_image(head: Head, tissues: dict[str, Tissue], protocol: Protocol) -> Volume:
    """Return the noise-free MR image (relative units, about 0 to 0.7): the sum of every tissue's part in a voxel."""
    image = np.zeros_like(head.fractions["csf"])
    for name, fraction in head.fractions.items():
        tissue = tissues[name]
        signal = protocol.signal(tissue)
        if name in head.texture:
            # More water (less myelin): more protons, longer T2 and above all longer T1; first order in the signal.
            wetter = replace(tissue, pd=tissue.pd * 1.002, t1=tissue.t1 * 1.025, t2=tissue.t2 * 1.01)
            slope = (protocol.signal(wetter) - signal) / 0.01
            image += fraction * (np.float32(signal) + np.float32(slope) * head.texture[name])
        else:
            image += fraction * np.float32(signal)
    return np.maximum(image, 0)


def ct_image(head: Head, tissues: dict[str, Tissue]) -> Volume:
    """Return the CT image in HU."""
    image = np.zeros_like(head.fractions["csf"])
    for name, fraction in head.fractions.items():
        tissue = tissues[name]
        image += fraction * np.float32(tissue.hu)
        if name in head.texture:
            image += fraction * (np.float32(tissue.hu_slope) * head.texture[name])
    return image


def rician(image: Volume, sigma: float, rng: np.random.Generator) -> Volume:
    """Return the magnitude of the image with complex Gaussian noise of standard deviation `sigma` per channel."""
    real = image + np.float32(sigma) * rng.standard_normal(image.shape, dtype=np.float32)
    imaginary = np.float32(sigma) * rng.standard_normal(image.shape, dtype=np.float32)
    result: Volume = np.hypot(real, imaginary)
    return result


def bias_field(shape: tuple[int, ...], strength: float, rng: np.random.Generator) -> Volume:
    """Return a receive field exp(strength * p): p is a random quadratic of the grid's own frame, within -1 to 1."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    terms = [*axes, *(a * b for i, a in enumerate(axes) for b in axes[i:])]
    field = np.zeros(shape, np.float32)
    for term, weight in zip(terms, rng.standard_normal(len(terms)), strict=True):
        field += np.float32(weight) * term
    field -= (field.max() + field.min()) / 2
    result: Volume = np.exp(np.float32(strength) * field / np.abs(field).max())
    return result
