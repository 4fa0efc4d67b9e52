"""Names of the classical methods by task, without importing anything heavy (the workflow lists them at parse time)."""

from typing import Final

from medwvae.names import Task

CLASSICAL: Final[dict[Task, tuple[str, ...]]] = {
    "autoencode": (),
    "superres": ("zero_filled", "spline", "lanczos", "cs_wavelet"),
    "denoise": ("nlm", "tv", "bayes_shrink"),
    "recon": ("zero_filled", "cs_wavelet"),
}
