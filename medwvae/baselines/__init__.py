"""Classical restoration methods: the rivals that need no training, each tuned on the validation subjects.

Every method is `run(measurement, **params) -> Tensor`: the restored magnitude (S, 1, H, W), float32, of the S slices
of a volume, each slice restored by itself in 2D (`bm4d` the volume as a whole).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

from torch import Tensor

from medwvae.baselines import ct, denoise, inpaint, recon, superres, variation
from medwvae.names import Task
from medwvae.operators import Measurement

Params = dict[str, float]


@dataclass(frozen=True)
class Classical:
    """A method and the parameters to try.

    Attributes
    ----------
    name : str
        As tables print it.
    task : Task
    run : callable
        `run(measurement, **params)`; keyword arguments are those of `grid`.
    grid : tuple of dict
        Parameter combinations; one empty combination if there is nothing to choose.
    noisy : tuple of dict
        Those to try where data have noise (samples of k-space, few photons), if they are others.
    whole : bool
        Whether it restores a volume as a whole; its parameters are then tried on successive slices.
    """

    name: str
    task: Task
    run: Callable[..., Tensor]
    grid: tuple[Params, ...] = ({},)
    noisy: tuple[Params, ...] = ()
    whole: bool = False

    @property
    def tuned(self) -> bool:
        """Whether there is anything to tune."""
        return len(self.grid) > 1

    def tried(self, measurement: Measurement) -> tuple[Params, ...]:
        """Return the combinations to try on such measurements."""
        clean = measurement.exact and measurement.noise is None
        return self.grid if clean else self.noisy or self.grid


def grid_of(**values: tuple[float, ...]) -> tuple[Params, ...]:
    """Return all combinations of these values."""
    return tuple(dict(zip(values, combination, strict=True)) for combination in product(*values.values()))


_METHODS = (
    Classical("zero_filled", "superres", recon.zero_filled),
    Classical("spline", "superres", superres.spline, grid_of(order=(1, 2, 3, 4, 5))),
    Classical("lanczos", "superres", superres.lanczos, grid_of(lobes=(2, 3, 4, 6, 8, 12))),
    Classical(
        "cs_wavelet",
        "superres",
        recon.cs_wavelet,
        grid_of(weight=(1e-6, 3e-6, 1e-5, 3e-5, 1e-4), iterations=(240,), moments=(1, 4)),
    ),
    Classical("tv", "superres", variation.tv, grid_of(huber=(0.03, 0.1, 0.3), iterations=(100, 400))),
    Classical("nlm", "denoise", denoise.nlm, grid_of(h=(0.5, 0.65, 0.8, 0.95), patch=(3, 5, 7))),
    Classical("tv", "denoise", denoise.tv, grid_of(weight=(0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0))),
    Classical("bayes_shrink", "denoise", denoise.bayes_shrink, grid_of(moments=(1, 2, 4, 8), noise=(0.8, 0.9, 1.0))),
    Classical("bilateral", "denoise", denoise.bilateral, grid_of(value=(1.5, 2.0, 3.0, 4.0), distance=(0.7, 1.0, 1.5))),
    Classical("bm3d", "denoise", denoise.bm3d, grid_of(noise=(0.8, 0.9, 1.0, 1.1))),
    Classical("bm4d", "denoise", denoise.bm4d, grid_of(noise=(0.8, 0.9, 1.0, 1.1)), whole=True),
    Classical("zero_filled", "recon", recon.zero_filled),
    Classical(
        "cs_wavelet",
        "recon",
        recon.cs_wavelet,
        grid_of(weight=(4e-5, 8e-5, 1.5e-4, 3e-4, 6e-4), iterations=(120, 240)),
        grid_of(weight=(1e-3, 3e-3, 1e-2, 3e-2, 1e-1), iterations=(60, 120, 240)),
    ),
    Classical(
        "tv",
        "recon",
        variation.tv,
        grid_of(huber=(0.0, 0.01), iterations=(200, 400, 800)),
        grid_of(huber=(0.0, 0.01), iterations=(100, 200), weight=(0.05, 0.1, 0.2, 0.4, 0.8, 1.6)),
    ),
    Classical("fbp", "ct", ct.fbp, grid_of(window=(0, 1))),
    Classical("sirt", "ct", ct.sirt, grid_of(iterations=(20, 50, 100, 200, 400))),
    Classical(
        "tv",
        "ct",
        variation.tv_ct,
        grid_of(weight=(1e-5, 2e-5, 5e-5, 2e-4, 5e-4), iterations=(400, 800, 1600), balance=(10,)),
        grid_of(weight=(2e-4, 5e-4, 1e-3, 3e-3, 1e-2), iterations=(100, 200, 400)),
    ),
    Classical(
        "cs_wavelet",
        "inpaint",
        recon.cs_wavelet,
        grid_of(weight=(3e-4, 1e-3, 3e-3, 1e-2), iterations=(240,), moments=(1, 4)),
    ),
    Classical("tv", "inpaint", variation.tv, grid_of(huber=(0.06, 0.12, 0.24), iterations=(300, 600, 1200))),
    Classical("biharmonic", "inpaint", inpaint.biharmonic),
)


def classical(task: Task) -> dict[str, Classical]:
    """Return the classical methods of a task by name."""
    return {method.name: method for method in _METHODS if method.task == task}
