"""What each metric is called, what it means, its range, which way is better, and what a mask does: for every table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from medwvae.metrics.subbands import LEVELS
from medwvae.names import INTERVAL_LEVELS
from medwvae.wavelets import subband_names

Better = Literal["higher", "lower", "nearest", "neither"]


@dataclass(frozen=True)
class Definition:
    """One metric as a table's foot explains it.

    Attributes
    ----------
    name : str
        In the column `metric`.
    label, unit : str
    better : {'higher', 'lower', 'nearest', 'neither'}
        'nearest' to `target`: methods are then compared by |value − target|. 'neither': they are not compared.
    range : str
        Of its values.
    text : str
        Definition in one sentence.
    mask : str
        What a region does.
    decimals : int
        That a mean deserves.
    target : float
        Best value of a metric whose nearest is best.
    """

    name: str
    label: str
    unit: str
    better: Better
    range: str
    text: str
    mask: str
    decimals: int
    target: float = 0.0

    @property
    def direction(self) -> str:
        """Return 'higher is better', 'lower is better', '1 is best', or nothing."""
        if self.better == "neither":
            return ""
        return f"{self.target:g} is best" if self.better == "nearest" else f"{self.better} is better"

    @property
    def explained(self) -> str:
        """Return what it means, its range, which way is better and what a region does, in sentences."""
        way = f"; {self.direction}" if self.direction else ""
        return f"{self.text} Range: {self.range}{way}. Region: {self.mask}."

    def loss(self, value: float) -> float:
        """Return the value as something of which less is better; differences keep the metric's unit."""
        if self.better == "nearest":
            return abs(value - self.target)
        return value if self.better == "lower" else -value


_SUMS = "sums over the region's voxels"
_FILTERS = "filters see voxels outside the region; the sums are over its voxels"
_BLOCKS = "coefficients of whose block at least half lies in the region"
_TISSUE = {"soft": "soft tissue (0 to 100 HU in the truth)", "bone": "bone (from 300 HU in the truth)"}
_ROI = "voxels of that tissue in the head, without the region's rim"


def _subband(name: str, level: int) -> Definition:
    where = "approximation" if "d" not in name else "detail"
    return Definition(
        f"subband_{name}{level}", f"Error of {name}{level}", "", "lower", "0 to ∞",
        f"NMSE of the {where} subband {name} of level {level} (1 is the finest) of the Haar transform.", _BLOCKS, 4,
    )  # fmt: skip


_UNKNOWN = "voxels of the head that were not measured as they are (interval wider than 0)"


def _coverage(level: float) -> Definition:
    return Definition(
        f"coverage_{100 * level:g}", f"Coverage of {100 * level:g} % intervals", "", "nearest", "0 to 1",
        f"Share of voxels whose true value lies in the interval that was calibrated to hold {100 * level:g} % of them.",
        _UNKNOWN, 3, level,
    )  # fmt: skip


_THIRDS = {
    "narrow": "the third of the voxels with the narrowest intervals",
    "wide": "the third of the voxels with the widest intervals",
    "dark": "the third of the voxels with the lowest true value",
    "bright": "the third of the voxels with the highest true value",
    "flat": "the third of the voxels with the smallest |∇ref| in plane",
    "edges": "the third of the voxels with the largest |∇ref| in plane",
}


_ALL: Final = (
    Definition(
        "psnr", "PSNR", "dB", "higher", "−∞ to ∞",
        "Peak signal-to-noise ratio, 10 log10(R² / MSE); R: the protocol's data range.", _SUMS, 2,
    ),
    Definition(
        "ssim", "SSIM", "", "higher", "−1 to 1",
        "Structural similarity (Wang et al. 2004); window as the protocol says.",
        "the window sees voxels outside the region; the map is averaged over its voxels", 3,
    ),
    Definition(
        "nmse", "NMSE", "", "lower", "0 to ∞", "Normalised mean squared error, ‖x − ref‖² / ‖ref‖².", _SUMS, 4,
    ),
    Definition(
        "ms_ssim", "MS-SSIM", "", "higher", "0 to 1",
        "Multi-scale SSIM (Wang et al. 2003), mean over slices; up to five scales, as many as the "
        "shorter side of the box allows (176 voxels: five, 99: four, 44: three): compare only subjects of as many.",
        "the box around the region, which differs from subject to subject", 3,
    ),
    Definition(
        "gradient_error", "Gradient error", "", "lower", "0 to ∞",
        "NMSE of the gradient magnitudes, Σ (|∇x| − |∇ref|)² / Σ |∇ref|², in plane.", _FILTERS, 4,
    ),
    Definition(
        "hfen", "HFEN", "", "lower", "0 to ∞",
        "High-frequency error norm ‖LoG x − LoG ref‖ / ‖LoG ref‖, σ = 1.5 voxels, in plane (Ravishankar 2011).",
        _FILTERS, 3,
    ),
    Definition(
        "edge_sharpness", "Edge sharpness", "", "nearest", "−∞ to ∞",
        "Slope of edges relative to the truth's, Σ ∇x·∇ref / Σ |∇ref|², in plane; below 1 blurred, above 1 too steep.",
        "the tenth of the region's voxels with the largest |∇ref|", 3, 1.0,
    ),
    Definition(
        "lesion_contrast", "Lesion contrast", "", "nearest", "−∞ to ∞",
        "Share of the contrast of a volume's lesions, all together, to the ring of 3 voxels around them, one voxel "
        "apart, that is kept.",
        "lesion, and ring within the head", 3, 1.0,
    ),
    *(
        _subband(name, level)
        for level in range(LEVELS, 0, -1)
        for name in subband_names(2)[0 if level == LEVELS else 1 :]
    ),
    *(
        definition
        for tissue, words in _TISSUE.items()
        for definition in (
            Definition(
                f"hu_bias_{tissue}", f"HU bias, {tissue}", "HU", "nearest", "−∞ to ∞",
                f"Mean of x − ref in {words}.", _ROI, 2,
            ),
            Definition(
                f"hu_noise_{tissue}", f"HU noise, {tissue}", "HU", "lower", "0 to ∞",
                f"Standard deviation of x − ref in {words}.", _ROI, 2,
            ),
        )
    ),
    Definition(
        "nps_mean_soft", "NPS mean frequency", "1/mm", "neither", "0 to ∞",
        "Mean frequency of the noise power spectrum of x − ref in soft tissue: low where noise is smoothed to blobs.",
        "patches of 16 × 16 voxels wholly in soft tissue", 3,
    ),
    *(_coverage(level) for level in INTERVAL_LEVELS),
    *(
        Definition(
            f"coverage_{name}", f"Coverage, {name}", "", "nearest", "0 to 1",
            f"Share of voxels whose true value lies in the 90 % interval, in {words}.", _UNKNOWN, 3, 0.9,
        )
        for name, words in _THIRDS.items()
    ),
    Definition(
        "interval_width", "Interval width", "", "lower", "0 to ∞",
        "Mean width of the 90 % intervals, as a share of the truth's maximum.", _UNKNOWN, 4,
    ),
    Definition(
        "width_error_rank", "Rank of width and error", "", "higher", "−1 to 1",
        "Spearman's correlation of interval width and absolute error over voxels.", _UNKNOWN, 3,
    ),
)  # fmt: skip

DEFINITIONS: Final[Mapping[str, Definition]] = {one.name: one for one in _ALL}
OF_INTERVALS: Final = tuple(
    name for name in DEFINITIONS if name.startswith("coverage_") or name in ("interval_width", "width_error_rank")
)
"""Metrics of intervals, which only methods that are sure or unsure of themselves have."""


def definition(metric: str) -> Definition:
    """Return the definition of a metric; one that is not known is taken as it is, higher better."""
    known = DEFINITIONS.get(metric)
    return known or Definition(metric, metric.replace("_", " "), "", "higher", "not stated", "", "not stated", 3)
