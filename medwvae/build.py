"""From configuration to objects: the only room that knows both."""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medwvae import paths
from medwvae.config import (
    Config,
    CTConfig,
    DenoiseConfig,
    InpaintConfig,
    Problem,
    ReconConfig,
    SuperresConfig,
    TrainConfig,
)
from medwvae.config_base import parse_budget
from medwvae.errors import ConfigError
from medwvae.names import NETWORKS, Task, task_of
from medwvae.progress import say
from medwvae.seeding import seed_for

if TYPE_CHECKING:
    from medwvae.config_base import Budget
    from medwvae.config_generative import GenerativeModel
    from medwvae.degradation import Degradation, TaskDegradation
    from medwvae.generative.sources import Source
    from medwvae.nets.diffusion_prior import DiffusionPrior
    from medwvae.nets.latent import LatentModel
    from medwvae.nets.restorer import Restorer
    from medwvae.restore import Acquisition
    from medwvae.train import Settings


def degradation(config: Config, problem: str) -> "TaskDegradation":
    """Return the simulation of a problem's measurements, by its id."""
    from medwvae.degradation import (
        BicubicSuperres,
        Denoise,
        Inpaint,
        Recon,
        SparseView,
        Superres,
        ThickSlices,
    )

    match config.problem(problem).section:
        case SuperresConfig() as s:
            if s.protocol == "through-plane":
                return ThickSlices(s.factor, s.profile)
            return Superres(s.factor) if s.protocol == "ixi-td" else BicubicSuperres(s.factor)
        case DenoiseConfig() as d:
            return Denoise(d.sigma, d.noise)
        case ReconConfig() as r:
            return Recon(r.acceleration, r.centre, r.pattern, r.phase, r.coils, r.partial, r.noise)
        case CTConfig() as t:
            return SparseView(t.views, t.arc, t.beam, t.photons, t.attenuation)
        case InpaintConfig() as i:
            return Inpaint(i.kind, i.lost, i.streaks, i.adjacent)
    raise KeyError(problem)


def training_degradation(config: Config, task: Task) -> "Degradation":
    """Return what a task's networks are trained on: its settings in turn by chance, or the one that it has.

    With `networks.neighbours`, of slices between their neighbours; with `train.supervision`, without the clean image.
    """
    from medwvae.degradation import Mixture, Neighbourhoods
    from medwvae.self_supervision import SSDU, Noise2Self

    settings: list[Degradation] = []
    for problem in config.problems_of(task):
        one: TaskDegradation | Neighbourhoods = degradation(config, problem.id)
        if count := config.networks.neighbours:
            one = Neighbourhoods(one, count)
        match config.train.supervision:
            case "noise2self":
                settings.append(Noise2Self(one))
            case "ssdu":
                settings.append(SSDU(one))
            case _:
                settings.append(one)
    return settings[0] if len(settings) == 1 else Mixture(tuple(settings))


def acquisition(config: Config, problem: Problem) -> "Acquisition":
    """Return how volumes are measured that are restored as a whole."""
    from medwvae.restore import Acquisition

    return Acquisition(degradation(config, problem.id), config.seed, problem.task, config.restore.data_steps)


def protocol(config: Config, problem: str) -> str:
    """Return the name of the protocol that scores a problem: the study's own choice, or that of what is measured."""
    chosen: str | None = getattr(config.evaluate.protocols, task_of(problem), None)
    return chosen or degradation(config, problem).protocol


def setting(config: Config, problem: str) -> str:
    """Return the degradation in words, as the tables' `setting` column holds it."""
    match config.problem(problem).section:
        case SuperresConfig() as s:
            thick = f"{s.profile} slice profile"
            how = {"ixi-td": "k-space truncation", "ixi-bd": "bicubic", "through-plane": thick}[s.protocol]
            return f"x{s.factor} {how}"
        case DenoiseConfig() as d:
            law = {"rician": "Rician", "gaussian": "Gaussian", "poisson": "Poisson"}[d.noise]
            return f"{law} sigma {100 * d.sigma:g} % of maximum"
        case ReconConfig() as r:
            more = (f", {r.coils} coils" if r.coils > 1 else "") + (f", partial {r.partial:g}" if r.partial < 1 else "")
            more += f", noise {100 * r.noise:g} % of maximum" if r.noise else ""
            return f"Cartesian {r.acceleration:g}x {r.pattern}, centre {r.centre:g}{more}"
        case CTConfig() as t:
            arc = f" over {t.arc:g} degrees" if t.beam == "parallel" and t.arc != 180 else ""
            return f"{t.views} views, {t.beam} beam{arc}" + (f", {t.photons:g} photons" if t.photons else "")
        case InpaintConfig() as i:
            slices = f"{100 * i.lost:g} % of the slices" + (f", {i.adjacent} in a row" if i.adjacent > 1 else "")
            return {
                "blocks": f"{100 * i.lost:g} % in blocks",
                "streaks": f"{i.streaks} streaks per insert",
                "slices": slices,
            }[i.kind]
    raise KeyError(problem)


def network(config: Config, task: Task, name: str) -> "Restorer":
    """Return an untrained network, its kernels laid out as is fastest.

    Raises
    ------
    KeyError
        If there is no such network.
    """
    import torch
    from torch import nn

    model = _network(config, task, name)
    # Measured on a CPU, training and restoring: networks on slices gain 10 to 40 % with their channels last; with
    # instance norm, as MONAI's BasicUNet has it, they lose as much.
    if model.dims == 2 and not any(isinstance(part, nn.InstanceNorm2d) for part in model.modules()):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _network(config: Config, task: Task, name: str) -> "Restorer":
    channels, dims, neighbours = 2 if task == "recon" else 1, config.networks.dims, config.networks.neighbours
    # The noise level alone tells apart what denoising meets; random masks of one acceleration hold now more samples,
    # now fewer; where nothing differs there is nothing to read.
    differs = task == "recon" or len(config.problems_of(task)) > 1
    conditions = 1 if task == "denoise" else 2 * differs
    reads: dict[str, Any] = {
        "channels": channels, "conditions": conditions, "dims": dims, "neighbours": neighbours,
        "mask": task == "inpaint",
    }  # fmt: skip
    if name == "wavelet_vae":
        from medwvae.nets.wavelet_vae import WaveletVAE

        return WaveletVAE(**reads, **getattr(config.networks.wavelet_vae, task).model_dump(exclude={"weight_decay"}))
    own = getattr(config.networks, name).model_dump(exclude={"learning_rate"}) if name in NETWORKS else {}
    own |= reads
    if name == "conv_vae":
        from medwvae.nets.conv_vae import ConvVAE

        return ConvVAE(**own)
    if name == "unet":
        from medwvae.nets.unet import UNet

        return UNet(**own)
    if name == "dncnn":
        from medwvae.nets.dncnn import DnCNN

        return DnCNN(**own)
    if name == "unrolled_unet":
        from medwvae.nets.unrolled_unet import UnrolledUNet

        # Nothing is known exactly in denoising: its rounds would be one deeper network.
        return UnrolledUNet(**own | ({"rounds": 1} if task == "denoise" else {}))
    raise KeyError(name)


def generative_data(config: Config) -> "Source":
    """Return where the images of the generative models come from; nothing is read yet."""
    from medwvae.generative.sources import Photographs, Slices, Volumes

    c, fidelity = config.generative.data, config.generative.fidelity
    if c.kind == "slices":
        return Slices(paths.prepared_index(config.root), c.size, c.mirror, fidelity.slices)
    if c.kind == "volumes":
        return Volumes(paths.prepared_index(config.root), c.size, c.mirror, c.block)
    return Photographs(
        c.kind,
        Path(c.path),
        paths.image_cache(config.root),
        c.size,
        c.validation,
        getattr(c, "test", 0.1),
        config.seed,
        c.mirror,
        fidelity.images,
    )


def latent_model(config: Config, system: str, rate: int) -> "LatentModel":
    """Return an untrained generative model with one latent value for every `rate` values of an image, exactly.

    A colour image has three values per pixel; of volumes the model has three axes.

    Raises
    ------
    ConfigError
        If the system cannot have that rate, its latent has another number of values, or it is to know classes and the
        images have one only.
    """
    section, data = config.generative.systems[system], generative_data(config)
    channels, *rest = data.shape
    size = tuple(rest)
    own = section.model_dump(exclude=set(section.not_the_models)) | {"channels": channels, "dims": len(size)}
    if getattr(section, "conditional", False):
        if len(data.classes) < 2:
            have = f"one only, {data.classes[0]}" if data.classes else "none"
            raise ConfigError(f"generative.systems.{system}.conditional: the images need several classes, have {have}")
        own["classes"] = len(data.classes)
    try:
        model = _latent_model(section.kind, own, size, rate)
    except (ValueError, ConfigError) as error:
        raise ConfigError(f"generative.systems.{system} at rate {rate}: {error}") from None
    values, wanted = model.latent_values(size), channels * math.prod(size) / rate
    if values != wanted:
        what = f"{' x '.join(map(str, size))} " + ("pixels" if len(size) == 2 else "voxels")
        what += f" in {channels} channels" if channels > 1 else ""
        raise ConfigError(
            f"generative.systems.{system}: {values} latent values for {what}, but rate {rate} "
            f"needs {wanted:g}; change the system's own settings, its rates, or generative.data.size"
        )
    return model


def _latent_model(kind: str, own: dict[str, Any], size: tuple[int, ...], rate: int) -> "LatentModel":
    from medwvae.nets.normal_prior import channels_for_rate

    channels, dims = own["channels"], own["dims"]
    if kind == "dense_vae":
        from medwvae.nets.dense_vae import DenseVAE

        return DenseVAE(shape=size, latent=channels * math.prod(size) // rate, **own)
    if kind == "conv_vae":
        from medwvae.nets.conv_latent import ConvLatent

        latent = own["zone"] * channels_for_rate(rate, own["downsamplings"], dims, channels)
        return ConvLatent(latent=latent, shape=size, **own)
    if kind == "autoencoder_kl":
        from medwvae.nets.autoencoder_kl import AutoencoderKL

        return AutoencoderKL(latent=channels_for_rate(rate, len(own["widths"]) - 1, dims, channels), **own)
    if kind == "wavelet":
        from medwvae.nets.wavelet_latent import WaveletLatentVAE

        return WaveletLatentVAE(rate=rate, shape=size, **own)
    from medwvae.nets.controls import KeptSubbands, KeptZone, LargestCoefficients

    if kind == "zone":
        return KeptZone(rate=rate, shape=size, **own)
    return KeptSubbands(rate=rate, **own) if kind == "ll_only" else LargestCoefficients(rate=rate, **own)


def generative_training(config: Config, model: "GenerativeModel") -> "Settings":
    """Return the settings of a generative model's training: never stopped early, for all train equally long."""
    system, c = config.generative.systems[model.system], config.train
    rate, batch = getattr(system, "learning_rate", None), getattr(system, "batch", None)
    changes: dict[str, Any] = {"patience": 0, "batch": batch or c.batch}
    changes |= {"optimiser": getattr(system, "optimiser", "adamw"), "matrix_rate": c.matrix_rate}
    changes["seed"] = seed_for(config.seed, "generative", model.seed)
    changes |= _precision_of_images(config)
    return _settings(config, c, config.generative_budget(model.system), rate or c.learning_rate, **changes)


def prior(config: Config, latent: "LatentModel") -> "DiffusionPrior":
    """Return a trained model with an untrained prior on its latent."""
    from medwvae.nets.diffusion_prior import DiffusionPrior

    c = config.generative.prior
    return DiffusionPrior(latent, parts=c.parts, widths=c.widths, steps=c.steps)


def prior_training(config: Config, model: "GenerativeModel") -> "Settings":
    """Return the settings of the training of a model's prior."""
    c = config.generative.prior
    seed = seed_for(config.seed, "prior", model.seed)
    own = _precision_of_images(config)
    return _settings(config, config.train, parse_budget(c.budget), c.learning_rate, seed=seed, patience=0, **own)


def _precision_of_images(config: Config) -> dict[str, str]:
    """Return float32 for generative models of volumes on a CPU, for the reason of `_precision_of_patches`.

    Their grids have two slices at a coarse level of the encoder, of the diffusion's U-Net, or at none; all train alike.
    """
    from medwvae.precision import device_for

    c = config.train
    if config.generative.data.dims == 2 or c.precision != "auto" or device_for(c.accelerator) != "cpu":
        return {}
    return {"precision": "32-true"}


def training(config: Config, task: Task, network_name: str) -> "Settings":
    """Return the settings of the training loop."""
    c = config.training(task)
    rate = config.networks.conv_vae.learning_rate if network_name == "conv_vae" else c.learning_rate
    changes: dict[str, Any] = {"optimiser": c.optimiser, "matrix_rate": c.matrix_rate}
    own: float | None = getattr(config.networks.wavelet_vae, task).weight_decay
    if network_name == "wavelet_vae" and own is not None:
        changes["weight_decay"] = own
    if config.networks.dims == 3 and c.precision == "auto":
        changes["precision"] = _precision_of_patches(config, task, network_name)
    return _settings(config, c, config.budget(task), rate, **changes)


def _precision_of_patches(config: Config, task: Task, name: str) -> str:
    """Return `auto`, or float32 where a CPU's bfloat16 would give wrong gradients.

    Of a 3x3x3 convolution over two slices oneDNN's bfloat16 weight gradient is garbage, often infinite (PyTorch 2.13;
    any width, right over one, three or more slices: tests/test_train.py). Patches of as many slices as a small power of
    two have two at some level.
    """
    from medwvae.precision import best_precision, device_for

    c = config.train
    multiple = network(config, task, name).alignment()[0]
    depth = c.depth + -c.depth % multiple
    halved = depth & (depth - 1) == 0 and depth <= 2 * multiple
    if not halved or device_for(c.accelerator) != "cpu" or best_precision(c.accelerator) == "32-true":
        return "auto"
    say(
        f"train.depth {c.depth} leaves two slices at a coarse level of {name}, where bfloat16 gradients on CPUs are "
        f"wrong: it trains in float32; with {3 * multiple} slices it would not have to"
    )
    return "32-true"


def _settings(config: Config, c: TrainConfig, budget: "Budget", rate: float, **changes: Any) -> "Settings":
    from medwvae.train import Settings

    settings = Settings(
        seconds=budget.seconds,
        steps=budget.steps,
        batch=c.batch,
        learning_rate=rate,
        weight_decay=c.weight_decay,
        warmup=c.warmup,
        clip=c.clip,
        ema=c.ema,
        validations=c.validations,
        patience=c.patience,
        loss=c.loss,
        checkpoint_seconds=c.checkpoint_seconds,
        seed=config.seed if c.seed is None else c.seed,
        precision=c.precision,
        accelerator=c.accelerator,
        devices=c.devices,
        nodes=c.nodes,
        accumulate=c.accumulate,
        deterministic=c.deterministic,
    )
    return replace(settings, **changes)
