"""From a clean slice to what each task measures: one place for the simulation of every protocol."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

from medwvae.operators import (
    Masking,
    Measurement,
    NoiseLaw,
    Pattern,
    Profile,
    Radon,
    bicubic,
    birdcage_maps,
    block_mask,
    cartesian_mask,
    fan_beam,
    from_kspace,
    gaussian,
    low_dose,
    missing_slices_mask,
    parallel_beam,
    partial_fourier_mask,
    poisson,
    poisson_disc_mask,
    rician,
    sample_kspace,
    smooth_phase,
    streak_mask,
    through_plane,
    to_kspace,
    truncation_mask,
    with_phase,
)


@dataclass(frozen=True)
class Simulated:
    """A measurement and its truth.

    Attributes
    ----------
    measurement : Measurement
        What the methods see.
    truth : Tensor
        (B, C, H, W); complex (C = 2) and demodulated like the measurement for `recon`, whose magnitude is scored.
    held : Measurement or None
        What answers are judged by in place of the truth (`medwvae.self_supervision`); the truth is then measured, too.
    """

    measurement: Measurement
    truth: Tensor
    held: Measurement | None = None


class Degradation(Protocol):
    """What is measured of clean slices."""

    def __call__(self, image: Tensor, maximum: Tensor, generator: torch.Generator, run: int | None) -> Simulated:
        """Measure a batch.

        Parameters
        ----------
        image : Tensor
            (B, 1, H, W) in network units.
        maximum : Tensor
            Of the volume, (B or 1,).
        generator : torch.Generator
        run : int or None
            So many successive slices are one acquisition and have one mask and one phase; None: all of the batch.
        """
        ...


class TaskDegradation(Degradation, Protocol):
    """What a restoration task measures."""

    @property
    def protocol(self) -> str:
        """Name of the protocol (`medwvae.protocols`) that scores what is restored."""
        ...


@dataclass(frozen=True)
class Clean:
    """No degradation: the start is the clean image, from which generative models learn."""

    def __call__(self, image: Tensor, maximum: Tensor, generator: torch.Generator, run: int | None) -> Simulated:
        """See `Degradation`."""
        return Simulated(Measurement(image), image)


@dataclass(frozen=True)
class Mixture:
    """Several settings of a task, on which one network is trained: every batch is measured in one, drawn by chance."""

    settings: tuple[Degradation, ...]

    def __call__(self, image: Tensor, maximum: Tensor, generator: torch.Generator, run: int | None) -> Simulated:
        """See `Degradation`."""
        drawn = int(torch.randint(len(self.settings), (), generator=generator))
        return self.settings[drawn](image, maximum, generator, run)


@dataclass(frozen=True)
class Neighbourhoods:
    """Slices that are measured together with `count` slices on either side, whose starts a network sees beside theirs.

    Called with (B, 2 count + 1, H, W): each row of successive slices is one acquisition, with `run` None all of them.
    """

    degrade: Degradation
    count: int

    def __call__(self, image: Tensor, maximum: Tensor, generator: torch.Generator, run: int | None) -> Simulated:
        """See `Degradation`; the middle slices are measurement and truth."""
        batch, width = image.shape[:2]
        maxima = maximum if len(maximum) == 1 else maximum.repeat_interleave(width)
        all_ = self.degrade(image.flatten(0, 1)[:, None], maxima, generator, None if run is None else width)
        starts = torch.unflatten(all_.measurement.start, 0, (batch, width))
        around = torch.cat((starts[:, : self.count], starts[:, self.count + 1 :]), dim=1).flatten(1, 2)
        middle = slice(self.count, None, width)
        return Simulated(replace(all_.measurement[middle], neighbours=around), all_.truth[middle])


def acquisitions(image: Tensor, run: int | None) -> int:
    """Return how many acquisitions a batch holds; see `Degradation`."""
    return 1 if run is None else len(image) // run


def each_slice(drawn: Tensor, run: int | None) -> Tensor:
    """Return what was drawn for each acquisition (N, ...) for each of its slices, or (1, ...) for all."""
    return drawn if run is None or run == 1 else drawn.repeat_interleave(run, 0)


@dataclass(frozen=True)
class Superres:
    """In-plane k-space truncation (protocol `ixi-td`)."""

    factor: int
    protocol: ClassVar[str] = "ixi-td"

    def __call__(self, image: Tensor, maximum: Tensor, generator: torch.Generator, run: int | None) -> Simulated:
        """See `Degradation`."""
        mask = truncation_mask((image.shape[-2], image.shape[-1]), self.factor).to(image.device)
        return Simulated(sample_kspace(image, mask), image)


@dataclass(frozen=True)
class BicubicSuperres:
    """In-plane bicubic reduction (protocol `ixi-bd`); the start is A†y, which agrees with the small image exactly."""

    factor: int
    protocol: ClassVar[str] = "ixi-bd"

    def __call__(self, image: Tensor, maximum: Tensor, generator: torch.Generator, run: int | None) -> Simulated:
        """See `Degradation`."""
        operator = bicubic((image.shape[-2], image.shape[-1]), self.factor)
        small = operator.forward(image)
        return Simulated(Measurement(operator.pseudo_inverse(small), operator, small), image)


@dataclass(frozen=True)
class ThickSlices:
    """Thick slices across one axis of the image (protocol `through-plane`), of slices cut at right angles to them.

    `thickness` in thin slices; None for `factor`.
    """

    factor: int
    profile: Profile = "rect"
    thickness: float | None = None
    axis: int = -1
    protocol: ClassVar[str] = "through-plane"

    def __call__(self, image: Tensor, maximum: Tensor, generator: torch.Generator, run: int | None) -> Simulated:
        """See `Degradation`."""
        operator = through_plane(image.shape[self.axis], self.factor, self.profile, self.thickness, self.axis)
        thick = operator.forward(image)
        return Simulated(Measurement(operator.pseudo_inverse(thick), operator, thick), image)


@dataclass(frozen=True)
class Denoise:
    """Noise of standard deviation `sigma` × the volume's maximum; of Poisson noise, at that maximum (1/σ² counts).

    Protocol `brainweb-rician`, or another by its law.
    """

    sigma: float
    law: NoiseLaw = "rician"

    @property
    def protocol(self) -> str:
        """Name of the protocol."""
        return "poisson" if self.law == "poisson" else f"brainweb-{self.law}"

    def __call__(self, image: Tensor, maximum: Tensor, generator: torch.Generator, run: int | None) -> Simulated:
        """See `Degradation`."""
        maximum = maximum.reshape(-1, 1, 1, 1)
        sigma = self.sigma * maximum
        if self.law == "poisson":
            noisy = poisson(image, self.sigma**-2, maximum.to(image.device), generator)
            return Simulated(Measurement(noisy, sigma=sigma, law="poisson", maximum=maximum), image)
        draw = rician if self.law == "rician" else gaussian
        return Simulated(Measurement(draw(image, sigma, generator), sigma=sigma, law=self.law), image)


@dataclass(frozen=True)
class Recon:
    """Cartesian undersampling of a complex image with a smooth phase (protocols `fastmri` and `calgary`).

    The measurement is demodulated by the phase that its own central columns show; so is the truth.

    Attributes
    ----------
    acceleration, centre, pattern
        See `medwvae.operators.cartesian_mask`; of a Poisson disc `centre` is a fraction of both axes.
    phase : float
        Waves of the random phase.
    coils : int
        1, or so many simulated birdcage coils, whose sensitivities the methods know.
    partial : float
        Fraction of the columns that partial Fourier leaves, on top of the acceleration.
    noise : float
        Standard deviation of the noise of a coil's sample, of either part, relative to the volume's maximum.
    """

    acceleration: float
    centre: float
    pattern: Pattern
    phase: float
    coils: int = 1
    partial: float = 1.0
    noise: float = 0.0

    @property
    def protocol(self) -> str:
        """Name of the protocol."""
        return "calgary" if self.pattern == "poisson-disc" else "fastmri"

    def __call__(self, image: Tensor, maximum: Tensor, generator: torch.Generator, run: int | None) -> Simulated:
        """See `Degradation`."""
        height, width = image.shape[-2:]
        phases, masks = [], []
        for _ in range(acquisitions(image, run)):
            phases.append(smooth_phase((height, width), generator, self.phase))
            masks.append(self._mask((height, width), generator))
        truth = with_phase(image, each_slice(torch.stack(phases)[:, None], run).to(image.device))
        mask = each_slice(torch.cat(masks), run).to(image.device)
        maps = birdcage_maps((height, width), self.coils).to(image.device) if self.coils > 1 else None
        rows = round(height * self.centre) if self.pattern == "poisson-disc" else None
        noise = (self.noise * maximum).to(image).reshape(-1, 1, 1, 1) if self.noise else None
        measurement = sample_kspace(
            truth, mask, round(width * self.centre), centre_rows=rows, maps=maps, noise=noise, generator=generator
        )
        return Simulated(measurement, from_kspace(to_kspace(truth), 2, measurement.phasor))

    def _mask(self, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        if self.pattern == "poisson-disc":
            block = (round(shape[0] * self.centre), round(shape[1] * self.centre))
            mask = poisson_disc_mask(shape, self.acceleration, block, generator)
        else:
            mask = cartesian_mask(shape[1], self.acceleration, self.centre, self.pattern, generator)
        return mask if self.partial == 1 else mask & partial_fourier_mask(shape[1], self.partial)


@dataclass(frozen=True)
class SparseView:
    """CT from few views (protocol `sparse-view`); the start is filtered back-projection.

    Attributes
    ----------
    views : int
        Equally spaced over `arc` degrees; less than 180 is limited-angle.
    beam : {'parallel', 'fan'}
        A fan goes round a full turn, whatever the `arc`.
    photons : float or None
        Photons per detector element, see `medwvae.operators.low_dose`; None for no noise.
    attenuation : float
        Of a pixel of intensity 1, as an exponent. 0.04 is about 2 mm of water at 70 keV.
    """

    views: int
    arc: float = 180.0
    beam: Literal["parallel", "fan"] = "parallel"
    photons: float | None = None
    attenuation: float = 0.04
    protocol: ClassVar[str] = "sparse-view"

    def __call__(self, image: Tensor, maximum: Tensor, generator: torch.Generator, run: int | None) -> Simulated:
        """See `Degradation`."""
        shape = (image.shape[-2], image.shape[-1])
        parallel = self.beam == "parallel"
        operator = Radon(parallel_beam(shape, self.views, arc=self.arc) if parallel else fan_beam(shape, self.views))
        sinogram = operator.forward(image)
        if self.photons is not None:
            sinogram = low_dose(sinogram, self.photons, generator, scale=self.attenuation)
        measurement = Measurement(operator.pseudo_inverse(sinogram), operator, sinogram, exact=self.photons is None)
        return Simulated(measurement, image)


@dataclass(frozen=True)
class Inpaint:
    """Lost pixels (protocol `inpainting`); the start has zeros there.

    Attributes
    ----------
    kind : {'blocks', 'streaks', 'slices'}
        See `medwvae.operators.block_mask`, `streak_mask` and `missing_slices_mask`: slices of the volume at right
        angles to the image, along its last axis.
    lost : float
        Fraction of the pixels in lost blocks, at least; of lost slices.
    streaks : int
        Bands through each of two inserts.
    adjacent : int
        Lost slices in a row.
    """

    kind: Literal["blocks", "streaks", "slices"] = "blocks"
    lost: float = 0.2
    streaks: int = 8
    adjacent: int = 1
    protocol: ClassVar[str] = "inpainting"

    def __call__(self, image: Tensor, maximum: Tensor, generator: torch.Generator, run: int | None) -> Simulated:
        """See `Degradation`."""
        shape = (image.shape[-2], image.shape[-1])
        masks = [self._mask(shape, generator) for _ in range(acquisitions(image, run))]
        operator = Masking(each_slice(torch.cat(masks), run).to(image.device))
        known = operator.forward(image)
        return Simulated(Measurement(known, operator, known), image)

    def _mask(self, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        if self.kind == "blocks":
            return block_mask(shape, self.lost, (0.05, 0.2), generator)
        if self.kind == "streaks":
            return streak_mask(shape, generator, streaks=self.streaks)
        known = missing_slices_mask(shape[1], round(self.lost * shape[1]), generator, self.adjacent)
        return known.expand(1, 1, *shape)
