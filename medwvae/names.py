"""The vocabulary: every name that crosses a room's wall is spelled here, once."""

from typing import Final, Literal, get_args

Task = Literal["superres", "denoise", "recon", "ct", "inpaint"]
"""What to restore from; generative models are no task but systems of `generative.systems`."""
TASKS: Final[tuple[Task, ...]] = get_args(Task)


def task_of(problem: str) -> Task:
    """Return the task of a problem: `denoise` of `denoise`, and of its setting `denoise-s3`.

    Raises
    ------
    KeyError
        If it is no task's.
    """
    name = problem.partition("-")[0]
    if name not in TASKS:
        raise KeyError(problem)
    return name


OptimiserName = Literal["muon", "adamw"]
LossName = Literal["l1", "mse", "charbonnier"]
GenerativeLossName = Literal[LossName, "bce"]
Network = Literal["wavelet_vae", "conv_vae", "unet", "dncnn", "unrolled_unet"]
NETWORKS: Final[tuple[Network, ...]] = get_args(Network)
USUAL_NETWORKS: Final[tuple[Network, ...]] = ("wavelet_vae", "conv_vae", "unet")
"""Those of every study that does not name its own: each network is one more training."""

Extra = Literal["bm3d", "bm4d"]
EXTRAS: Final[dict[Task, tuple[Extra, ...]]] = {
    "superres": (),
    "denoise": ("bm3d", "bm4d"),
    "recon": (),
    "ct": (),
    "inpaint": (),
}
"""Classical methods of packages that the project does not bring: their licences do not allow every use."""

Classical = Literal[
    "zero_filled", "spline", "lanczos", "cs_wavelet", "nlm", "tv", "bayes_shrink", "bilateral", "fbp", "sirt",
    "biharmonic",
]  # fmt: skip
CLASSICAL: Final[dict[Task, tuple[Classical, ...]]] = {
    "superres": ("zero_filled", "spline", "lanczos", "cs_wavelet", "tv"),
    "denoise": ("nlm", "tv", "bayes_shrink", "bilateral"),
    "recon": ("zero_filled", "cs_wavelet", "tv"),
    "ct": ("fbp", "sirt", "tv"),
    "inpaint": ("cs_wavelet", "tv", "biharmonic"),
}
"""Names of the classical methods by task; what they do is in `medwvae.baselines`."""

ZERO_SHOT: Final = "zero_shot"
"""The method that restores by the prior of a generative model, where `restore.zero_shot` names one."""

UNetNorm = Literal["none", "instance"]
"""Normalisation of the U-Nets."""

Kind = Literal["input", "classical", "network", "ours"]
"""What a row of `metrics.csv` stands for; see docs/protocols.md."""

Region = Literal["head", "whole", "lesion"]
"""`lesion`: where a mask of lesions was given (`evaluate.lesions`)."""
REGIONS: Final[tuple[Region, ...]] = get_args(Region)

Metric = Literal[
    "psnr", "ssim", "nmse", "ms_ssim", "gradient_error", "hfen", "edge_sharpness", "subbands", "ct"
]  # fmt: skip
"""What an evaluation can score; definitions are in `medwvae.metrics`."""
METRICS: Final[tuple[Metric, ...]] = get_args(Metric)
USUAL_METRICS: Final[tuple[Metric, ...]] = (
    "psnr", "ssim", "nmse", "gradient_error", "hfen", "edge_sharpness", "ct",
)  # fmt: skip
"""Quick enough for every study; `ct` says nothing about MR."""

INTERVAL_LEVELS: Final = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Levels of intervals that are calibrated and, in the report, held against what is covered."""

Part = Literal["train", "val", "test"]
PARTS: Final[tuple[Part, ...]] = get_args(Part)

ImageKind = Literal["cifar10", "celeba_hq", "mnist"]
"""Sets of photographs and digits, on which generative models are compared outside medicine."""

LATENT_USES: Final = ("walk", "edit", "heatmap", "imputed")
"""What the report shows being done with a latent, beside samples."""

Modality = Literal["MR", "CT"]
Contrast = Literal["t1w", "t2w", "flair", "pdw", "ct", "unknown"]
"""Image weighting. `unknown` is honest: the header did not say."""
CONTRASTS: Final[tuple[Contrast, ...]] = get_args(Contrast)
