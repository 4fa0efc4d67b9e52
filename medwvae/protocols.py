"""Evaluation protocols: everything that a PSNR or an SSIM needs beside the two images, under one name.

A number without its protocol cannot be compared: on one noisy pair the usual SSIMs differ by a fifth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from medwvae.metrics.similarity import SsimKind, ssim_map
from medwvae.metrics.voxels import Array, Mask, masked_mean, nmse, psnr
from medwvae.names import Region


class Score(NamedTuple):
    """One value of `metrics.csv`."""

    region: Region
    metric: str
    value: float
    unit: str


@dataclass(frozen=True)
class Protocol:
    """How a restored volume is compared with the truth. Slices lie along axis 0; the subject's volume is the unit.

    Attributes
    ----------
    name, description : str
        The name tables print, and the sentence that explains it.
    data_range : {'volume maximum'}
        Rule that gives the data range from the true volume (never from the image under test).
    ssim_kind, ssim_dims
        Window of the SSIM, see `medwvae.metrics.ssim_map`.
    averaging : {'volume', 'slice'}
        PSNR and NMSE come from the squared error of the whole volume. The SSIM map is averaged over the volume's
        voxels either way; 'slice' says that this is the mean of the slices' SSIM (as in fastMRI).
    """

    name: str
    description: str
    data_range: Literal["volume maximum"]
    ssim_kind: SsimKind
    ssim_dims: Literal[2, 3]
    averaging: Literal["volume", "slice"]

    def range_of(self, ref: Array) -> float:
        """Return the data range of the true volume `ref`."""
        return float(ref.max())


PROTOCOLS: Final[Mapping[str, Protocol]] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "ixi-td",
            "In-plane super-resolution, truncated k-space; range: maximum of the true volume; SSIM Gaussian 11, 2D.",
            "volume maximum",
            "gaussian",
            2,
            "volume",
        ),
        Protocol(
            "brainweb-rician",
            "Denoising of Rician magnitude noise; range: maximum of the true volume; SSIM Gaussian 11, 3D.",
            "volume maximum",
            "gaussian",
            3,
            "volume",
        ),
        Protocol(
            "fastmri",
            "Cartesian undersampling; range: maximum of the true volume; SSIM uniform 7, mean over slices.",
            "volume maximum",
            "uniform",
            2,
            "slice",
        ),
    )
}


def score(protocol: Protocol, x: Array, ref: Array, head: Mask, lesion: Mask | None = None) -> list[Score]:
    """Score a restored volume inside the head, over the whole volume, and in its lesions where they are known.

    Parameters
    ----------
    x, ref : array of float, (slices, H, W)
        Restored and true magnitude volume, in the same units.
    head, lesion : array of bool, (slices, H, W)

    Returns
    -------
    list of Score
        PSNR (dB), SSIM and NMSE (no unit) for each region. The SSIM window sees voxels outside the head; only the
        mean of its map is restricted.
    """
    data_range = protocol.range_of(ref)
    similarity = ssim_map(x, ref, data_range=data_range, kind=protocol.ssim_kind, dims=protocol.ssim_dims)
    regions: tuple[tuple[Region, Mask | None], ...] = (("head", head), ("whole", None))
    if lesion is not None:
        regions += (("lesion", lesion),)
    scores = []
    for region, mask in regions:
        scores += [
            Score(region, "psnr", psnr(x, ref, data_range=data_range, mask=mask), "dB"),
            Score(region, "ssim", masked_mean(similarity, mask), ""),
            Score(region, "nmse", nmse(x, ref, mask=mask), ""),
        ]
    return scores
