"""What generated images are compared in: a function from images to vectors, stated by name; nothing is downloaded."""

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from medwvae.errors import InputError
from medwvae.fidelity.scattering import ScatteringFeatures

FeatureName = Literal["scattering", "inception", "radimagenet"]


class Features(Protocol):
    """A feature extractor: (B, C, *spatial) images to (B, F) vectors."""

    @property
    def name(self) -> str:
        """What to write beside a number that was measured in these features."""
        ...

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return (B, F)."""
        ...


class TorchScriptFeatures(nn.Module):
    """A network in a TorchScript file of the user's, e.g. Inception v3 or RadImageNet's ResNet-50 up to its pooling.

    Parameters
    ----------
    path : Path
        File that `torch.jit.save` wrote, of a module that maps (B, C, H, W), already in the network's own unit and
        size, to (B, F) or (B, F, h, w); maps are averaged over space. Use files that you trust: they are programs.
    channels : int
        Grey images are repeated to as many channels.
    prepare : callable, optional
        From the study's images to what the network was trained on (size, range); applied first.

    Raises
    ------
    InputError
        If the file is absent or is no TorchScript file.
    """

    def __init__(self, path: Path, channels: int = 3, prepare: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        if not path.is_file():
            raise InputError(f"the weights file {path.name} of the feature network is missing; none is downloaded")
        try:
            with warnings.catch_warnings():
                # torch.export, which is to replace it, cannot read the files in which these networks are handed on.
                warnings.filterwarnings("ignore", r".*torch\.jit\.load", DeprecationWarning)
                network = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{path.name} is no TorchScript file (torch.jit.save writes one)") from error
        self.network = network.eval()
        self.channels, self.prepare, self.name = channels, prepare, f"TorchScript {path.stem}"

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return features of (B, C, H, W) images, (B, F)."""
        if self.prepare is not None:
            x = self.prepare(x)
        if x.shape[1] == 1 < self.channels:
            x = x.expand(-1, self.channels, -1, -1)
        found: Tensor = self.network(x)
        return found.flatten(2).mean(2) if found.ndim > 2 else found


class OrthogonalSlices(nn.Module):
    """Features of volumes: those of their middle slice along each of the three axes, concatenated.

    The 2D extractor sees (B, C, D, H), (B, C, D, W) and (B, C, H, W); F is three times its own.
    """

    def __init__(self, planar: Features) -> None:
        super().__init__()
        self.planar, self.name = planar, f"middle slices, {planar.name}"

    def forward(self, x: Tensor) -> Tensor:
        """Return features of (B, C, D, H, W) volumes, (B, F)."""
        if x.ndim != 5:
            raise ValueError(f"need volumes (B, C, D, H, W), got shape {tuple(x.shape)}")
        return torch.cat([self.planar(x.select(axis, x.shape[axis] // 2)) for axis in (4, 3, 2)], 1)


def features_named(name: FeatureName, weights: Path | None = None, *, dims: Literal[2, 3] = 2) -> Features:
    """Return an extractor for images of `dims` axes; `inception` and `radimagenet` need the user's TorchScript file.

    Raises
    ------
    InputError
        If the name is none of them, or its file was not given, is absent or cannot be read.
    """
    planar: Features
    if name == "scattering":
        planar = ScatteringFeatures()
    elif name not in ("inception", "radimagenet"):
        raise InputError(f"there are no features named {name}; there are scattering, inception and radimagenet")
    elif weights is None:
        raise InputError(f"features of {name} need a TorchScript file of that network; give it, or use scattering")
    else:
        planar = TorchScriptFeatures(weights)
    return planar if dims == 2 else OrthogonalSlices(planar)


def extract(features: Features, images: Tensor | Iterable[Tensor], batch: int = 32) -> Tensor:
    """Return the features of (N, C, *spatial) images or of batches of them, `batch` at a time: (N, F), float64, CPU.

    Raises
    ------
    ValueError
        If there is no image, or a feature is not finite.
    """
    batches = [images] if isinstance(images, Tensor) else images
    parts = [features(part).double().cpu() for whole in batches for part in torch.split(whole, batch) if len(part)]
    if not parts:
        raise ValueError("there is no image to take features of")
    found = torch.cat(parts)
    if not found.isfinite().all():
        raise ValueError(f"features ({features.name}) of some images are not finite")
    return found
