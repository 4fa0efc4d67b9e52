"""The study of generative models: which systems, at which rates, on which images, and how they are scored."""

import math
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import BeforeValidator, Discriminator, Field, StringConstraints, Tag, model_validator

from medwvae.config_base import BudgetText, Crop, Fraction, Positive, Section, Several, without_null
from medwvae.names import GenerativeLossName, OptimiserName

Side = Annotated[int, Field(ge=11)]
"""Voxels of a volume along an axis: the window of the SSIM."""
Seeds = Positive | dict[Positive, Positive]
SystemName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]


class CohortDataConfig(Section):
    """What images of the study's own prepared volumes have."""

    channels: ClassVar[int] = 1
    dims: ClassVar[int] = 2
    of_cohort: ClassVar[bool] = True
    """Whether the images are of the study's own volumes."""

    @property
    def spatial(self) -> tuple[int, ...]:
        """Spatial shape of every image."""
        size: tuple[int, ...] = getattr(self, "size")  # noqa: B009 -- the sections declare it
        return size


class SliceDataConfig(CohortDataConfig):
    """Slices of the study's own prepared volumes, all in one frame."""

    kind: Literal["slices"] = Field("slices", description="slices of the study's prepared volumes that show the head")
    size: Crop = Field(
        (96, 128), description="height and width of every image: slices are padded with zeros or cut about their middle"
    )
    mirror: bool = Field(True, description="mirror training slices left to right by chance (where the plane has both)")


class VolumeDataConfig(CohortDataConfig):
    """The study's own prepared volumes, each as a whole in one small grid about its head."""

    dims: ClassVar[int] = 3
    kind: Literal["volumes"] = Field(description="whole prepared volumes")
    size: tuple[Side, Side, Side] = Field(
        (48, 64, 56), description="voxels of every image along R, A, S: a box about the middle of the head, air around"
    )
    block: tuple[Positive, Positive, Positive] = Field(
        (1, 1, 1),
        description="voxels along R, A, S that are averaged to one; no voxel is interpolated, so volumes should have "
        "one voxel size",
    )
    mirror: bool = Field(True, description="mirror training volumes left to right by chance")


class ImageDataConfig(Section):
    """What every set of photographs or digits has."""

    channels: ClassVar[int] = 3
    """Of an image, unless its file says otherwise."""
    dims: ClassVar[int] = 2
    of_cohort: ClassVar[bool] = False

    path: str = Field(min_length=1, description="folder (or .tar.gz of CIFAR-10) with the files")
    size: Positive | None = Field(
        None, description="scale to this many pixels a side (bicubic up, Lanczos down); null = as they are"
    )
    mirror: bool = Field(False, description="mirror training images left to right by chance")
    validation: Fraction = Field(0.1, description="fraction of the training images for validation; of a folder, of all")

    @property
    def spatial(self) -> tuple[int, ...]:
        """Spatial shape of every image; empty where only the files know it."""
        return () if self.size is None else (self.size, self.size)


class CIFAR10Config(ImageDataConfig):
    """CIFAR-10, its `python version`."""

    kind: Literal["cifar10"] = Field(description="pickled batches in a folder or their archive")


class CelebAHQConfig(ImageDataConfig):
    """CelebA-HQ, or any folder of photographs."""

    kind: Literal["celeba_hq"] = Field(description="PNG, JPEG or WebP files in a folder")
    test: Fraction = Field(0.1, description="fraction of the images for the report, by a hash of each file's name")

    @model_validator(mode="after")
    def _leaves_some(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"validation + test = {self.validation + self.test:g} leaves no image to train on")
        return self


class MNISTConfig(ImageDataConfig):
    """MNIST."""

    channels: ClassVar[int] = 1
    kind: Literal["mnist"] = Field(description="idx files, gzipped or not")


def _kind_of(data: Any) -> Any:
    """Return the kind of a set of images; slices may leave it out."""
    return data.get("kind", "slices") if isinstance(data, dict) else getattr(data, "kind", None)


AnyData = Annotated[
    Annotated[SliceDataConfig, Tag("slices")]
    | Annotated[VolumeDataConfig, Tag("volumes")]
    | Annotated[CIFAR10Config, Tag("cifar10")]
    | Annotated[CelebAHQConfig, Tag("celeba_hq")]
    | Annotated[MNISTConfig, Tag("mnist")],
    Discriminator(_kind_of),
]


class SystemConfig(Section):
    """What every system of the study has."""

    module: ClassVar[str]
    """Module of `medwvae.nets` that defines the model."""
    trained: ClassVar[bool] = True
    not_the_models: ClassVar[frozenset[str]] = frozenset(
        {"kind", "rates", "seeds", "budget", "optimiser", "learning_rate", "batch", "prior", "conditional"}
    )
    """Fields that the model's class does not read."""

    rates: Several[Positive] | None = Field(None, min_length=1, description="overrides generative.rates")
    seeds: Seeds | None = Field(None, description="overrides generative.seeds")


class TrainedConfig(SystemConfig):
    """What every system that trains has."""

    budget: BudgetText | None = Field(None, description="overrides generative.budget; the table states the seconds")
    learning_rate: float | None = Field(None, gt=0, description="overrides train.learning_rate")
    batch: Positive | None = Field(None, description="overrides train.batch")
    prior: bool = Field(False, description="fit generative.prior to its latent, and draw samples from that")
    conditional: bool = Field(
        False, description="tell the model the class of each image: contrast of a slice, label of a set of images"
    )
    likelihood: Literal["gaussian", "bernoulli"] = Field(
        "gaussian", description="p(x | z): Gaussian with a learned standard deviation, or Bernoulli"
    )
    beta: float = Field(1.0, ge=0, description="weight of the rate; 1 is the evidence lower bound")
    free_nats: float = Field(0.0, ge=0, description="free bits: the least that the rate of a latent value counts")


class DenseVAEConfig(TrainedConfig):
    """A flat vector latent behind dense layers; the images have one size."""

    module: ClassVar[str] = "dense_vae"
    kind: Literal["dense_vae"] = Field(description="dense VAE")
    hidden: tuple[Positive, ...] = Field((1024,), description="widths of the dense layers, outside first")
    widths: tuple[Positive, ...] = Field((), description="channels of convolutional levels around them; empty = none")


class ConvLatentConfig(TrainedConfig):
    """A spatial Gaussian latent behind strided convolutions."""

    module: ClassVar[str] = "conv_latent"
    kind: Literal["conv_vae"] = Field(description="convolutional VAE")
    downsamplings: Positive = Field(2, description="halvings of the resolution; 4^downsamplings / rate latent channels")
    widths: tuple[Positive, ...] = Field((48, 96), min_length=1, description="channels per resolution, fine first")
    blocks: int = Field(2, ge=0, description="residual blocks per resolution and direction")
    zone: Positive = Field(
        1,
        description="one of so many positions holds a latent, of so many times the channels: where images have energy",
    )


class AutoencoderKLConfig(TrainedConfig):
    """MONAI's AutoencoderKL."""

    module: ClassVar[str] = "autoencoder_kl"
    kind: Literal["autoencoder_kl"] = Field(description="MONAI's AutoencoderKL")
    widths: tuple[Positive, ...] = Field(
        (16, 32, 64), min_length=2, description="channels per resolution; each after the first halves it"
    )
    blocks: Positive = Field(1, description="residual blocks per resolution")
    attention: bool = Field(False, description="attention at the coarsest resolution")


class WaveletLatentConfig(TrainedConfig):
    """A Wavelet-VAE whose latent is the coarse subbands that the rate leaves."""

    module: ClassVar[str] = "wavelet_latent"
    kind: Literal["wavelet"] = Field(description="Wavelet-VAE")
    optimiser: OptimiserName = Field("adamw", description="muon or adamw, as in train, whatever train.optimiser is")
    objective: Literal["sparse", "elbo"] = Field("elbo", description="sparse = the paper's; elbo = a proper VAE")
    widths: tuple[Positive, ...] = Field(
        (32, 48, 64), min_length=1, description="channels per wavelet level, fine first"
    )
    blocks: int = Field(2, ge=0, description="residual blocks per level and direction")
    wavelet: str = Field("haar", description="family, by PyWavelets' name")
    noise: Literal["fixed", "global", "level", "subband"] = Field("subband", description="sharing of the noise scale s")
    initial_noise: float = Field(0.1, gt=0, description="s at the start")
    refine: Literal["none", "convolution", "wavelet"] = Field(
        "wavelet",
        description="refinement after the inverse transform: none, the paper's convolutions, or the encoder's twin",
    )
    refine_widths: tuple[Positive, ...] | None = Field(None, description="widths of the refinement; null = as above")
    prior_width: Positive = Field(32, description="channels of p(details | approximation) (elbo)")
    prior_blocks: int = Field(2, ge=0, description="residual blocks of p(details | approximation) (elbo)")
    select: Literal["subbands", "zone", "top_k"] = Field(
        "subbands",
        description="what the rate keeps: coarse subbands, the coefficients that are largest over the training images, "
        "or each image's largest (sparse)",
    )
    loss: GenerativeLossName = Field(
        "mse", description="loss of the reconstruction; bce is for images in [0, 1] (sparse)"
    )
    domain: Literal["image", "wavelet"] = Field("image", description="where that loss compares (sparse)")
    sparsity: float = Field(1e-3, ge=0, description="λ on the details (sparse)")
    sparsity_kind: Literal["l1", "kl"] = Field(
        "l1", description="what λ weighs: |ĉ|, or KL to a unit Gaussian (sparse)"
    )
    kl_weight: float = Field(0.0, ge=0, description="β of the KL on the approximation (sparse)")


class ControlConfig(SystemConfig):
    """What every control has: a plain transform, nothing trained."""

    module: ClassVar[str] = "controls"
    trained: ClassVar[bool] = False
    wavelet: str = Field("haar", description="family, by PyWavelets' name")


class LLOnlyConfig(ControlConfig):
    """Control: the coarse subbands of the transform itself, nothing learned."""

    kind: Literal["ll_only"] = Field(description="only the coarse subbands")


class DeepControlConfig(ControlConfig):
    """What a control has that chooses among the coefficients of all levels."""

    levels: Positive = Field(4, description="levels of the transform")


class ZoneConfig(DeepControlConfig):
    """Control: the coefficients of the transform that are largest over the training images."""

    kind: Literal["zone"] = Field(description="the coefficients that are largest over the training images")


class TopKConfig(DeepControlConfig):
    """Control: the k largest coefficients of the transform; where they lie is not counted."""

    kind: Literal["top_k"] = Field(description="the largest coefficients, wherever they are")


AnySystem = Annotated[
    DenseVAEConfig
    | ConvLatentConfig
    | AutoencoderKLConfig
    | WaveletLatentConfig
    | LLOnlyConfig
    | ZoneConfig
    | TopKConfig,
    Field(discriminator="kind"),
]


class PriorConfig(Section):
    """A prior that is trained after the autoencoder, on its latent."""

    kind: Literal["none", "diffusion"] = Field("none", description="none, or MONAI's diffusion U-Net on the latent")
    budget: BudgetText = Field("2 min", description="training of the prior, beside that of the autoencoder")
    learning_rate: float = Field(1e-3, gt=0, description="peak of its own schedule")
    parts: Literal[1] | None = Field(
        None, description="1 = the coarsest band alone, finer ones by the model's own prior; null = the whole latent"
    )
    widths: tuple[Positive, ...] = Field(
        (64, 96, 128), min_length=1, description="channels per resolution of the U-Net, multiples of 32"
    )
    steps: Positive = Field(50, description="denoising steps of a draw; divides 1000")

    @model_validator(mode="after")
    def _steps_divide(self) -> Self:
        if 1000 % self.steps:
            raise ValueError(f"steps: {self.steps} does not divide the 1000 of the diffusion; 20, 25, 40, 50, 100 do")
        return self


class FidelityConfig(Section):
    """What is scored, and on how much."""

    features: Literal["scattering", "inception", "radimagenet"] = Field(
        "scattering", description="what distributions are compared in; the networks need a TorchScript file of yours"
    )
    weights: str | None = Field(None, description="that file")
    slices: Positive = Field(32, description="of slices: test slices per volume that are scored, spread over the head")
    images: int = Field(
        1024, ge=4, description="of a set of images: most test images scored, and most training images for neighbours"
    )
    draws: int = Field(256, ge=4, description="samples whose distribution is compared with the test slices")
    bits: int = Field(
        8, ge=1, le=16, description="quantisation for bits per voxel: this many, over [0, training maximum]"
    )
    importance_draws: Positive = Field(64, description="K of the importance-weighted bound")
    importance_images: Positive = Field(16, description="test slices that it is taken over")
    batch: Positive = Field(32, description="images per forward pass")

    @model_validator(mode="after")
    def _weights_given(self) -> Self:
        if (self.weights is None) != (self.features == "scattering"):
            raise ValueError("weights: the file of the network that `features` names; scattering has none")
        return self


class GenerativeModel(NamedTuple):
    """One trained model of the study: a system at a rate, from a seed."""

    system: str
    rate: int
    seed: int

    @property
    def id(self) -> str:
        """Name of the model's files."""
        return f"{self.system}-r{self.rate}-s{self.seed}"


class GenerativeConfig(Section):
    """Generative models on equal terms: same images, training time and number of latent values; off without systems."""

    data: AnyData = Field(
        SliceDataConfig(),
        description="slices or volumes of the study, or a set of images: cifar10 celeba_hq mnist",
    )
    budget: BudgetText = Field("3 min", description="training of each model, the same for all")
    rates: Several[Positive] = Field(
        (4, 8, 16), min_length=1, description="values of an image (pixels x channels) per latent value"
    )
    seeds: Seeds = Field(1, description="trainings of each system: one number, or one per rate, as in {4: 1, 8: 3}")
    systems: Annotated[
        dict[SystemName, AnySystem],
        BeforeValidator(without_null, json_schema_input_type=dict[SystemName, AnySystem | None]),
    ] = Field(
        {}, description="own names, each with its kind: dense_vae conv_vae autoencoder_kl wavelet ll_only zone top_k"
    )
    prior: PriorConfig = PriorConfig()
    samples: Positive = Field(64, description="samples that the report shows")
    uses: str | None = Field(
        None,
        description="model (as elbo-r8-s1) that the report puts to use: walk, edit, heatmaps, imputation; null = none",
    )
    fidelity: FidelityConfig = FidelityConfig()

    @model_validator(mode="after")
    def _laws(self) -> Self:
        size = self.data.spatial
        values = self.data.channels * math.prod(size) if size else 0
        for name, system in self.systems.items():
            for rate in system.rates or self.rates:
                if values % rate:  # of images as they are, the size is known when they are read
                    raise ValueError(
                        f"systems.{name}: images of {' x '.join(map(str, size))} have {values} values, so "
                        f"no whole number of latent values at rate {rate}; change generative.data.size or the rate"
                    )
                self._seeds_of(name, rate)
            if getattr(system, "prior", False):
                if self.prior.kind == "none":
                    raise ValueError(f"systems.{name}.prior is true, but generative.prior.kind is none; say diffusion")
                if system.kind == "dense_vae":
                    raise ValueError(f"systems.{name}.prior: a flat vector has no grid for a diffusion prior")
                if self.prior.parts == 1 and getattr(system, "objective", "elbo") == "sparse":
                    raise ValueError(
                        f"systems.{name}.prior: paper mode has no prior of the details given the coarsest band; "
                        "generative.prior.parts: null"
                    )
            if getattr(system, "likelihood", "gaussian") == "bernoulli" and self.data.of_cohort:
                raise ValueError(
                    f"systems.{name}.likelihood: bernoulli is for images in [0, 1]; {self.data.kind} exceed 1"
                )
        if self.uses is not None and self.uses not in (models := self.models()):
            have = ", ".join(models) or "none, for there are no systems"
            raise ValueError(f"uses: the study has no model {self.uses}; have: {have}")
        return self

    def models(self) -> dict[str, GenerativeModel]:
        """Return every model of the study by its id: system by system, rate by rate, seeds from 1."""
        found = [
            GenerativeModel(name, rate, seed)
            for name, system in self.systems.items()
            for rate in system.rates or self.rates
            for seed in range(1, self._seeds_of(name, rate) + 1)
        ]
        return {model.id: model for model in found}

    def rival_of(self, model: str) -> str | None:
        """Return the conventional model that a model's latent walk stands beside: of its rate, and its seed if it can.

        The first convolutional VAE, else the first dense one, else the first AutoencoderKL; None without any.
        """
        models = self.models()
        one = models[model]
        for kind in ("conv_vae", "dense_vae", "autoencoder_kl"):
            if self.systems[one.system].kind == kind:
                return None  # it is the conventional one itself
            of_kind = [m for m in models.values() if m.rate == one.rate and self.systems[m.system].kind == kind]
            if of_kind:
                return min(of_kind, key=lambda m: (m.system != of_kind[0].system, m.seed != one.seed, m.seed)).id
        return None

    def _seeds_of(self, name: str, rate: int) -> int:
        system = self.systems[name]
        if not system.trained:
            return 1  # nothing in it depends on a seed
        seeds = self.seeds if system.seeds is None else system.seeds
        if isinstance(seeds, int):
            return seeds
        if rate not in seeds:
            raise ValueError(f"systems.{name}: no number of seeds for rate {rate}; have: {sorted(seeds)}")
        return seeds[rate]
