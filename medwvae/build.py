"""From configuration to objects: the only room that knows both."""

from typing import TYPE_CHECKING

from medwvae.config import Config
from medwvae.names import Task

if TYPE_CHECKING:
    from medwvae.degradation import Degradation
    from medwvae.nets.restorer import Restorer
    from medwvae.train import Settings


def degradation(config: Config, task: Task) -> "Degradation":
    """Return the simulation of a task's measurements."""
    from medwvae.degradation import Autoencode, Denoise, Recon, Superres

    tasks = config.tasks
    if task == "superres":
        return Superres(tasks.superres.factor)
    if task == "denoise":
        return Denoise(tasks.denoise.sigma)
    if task == "recon":
        c = tasks.recon
        return Recon(c.acceleration, c.centre, c.pattern, c.phase)
    return Autoencode()


def setting(config: Config, task: Task) -> str:
    """Return the degradation in words, as the tables' `setting` column holds it."""
    tasks = config.tasks
    if task == "superres":
        return f"x{tasks.superres.factor} k-space truncation"
    if task == "denoise":
        return f"Rician sigma {100 * tasks.denoise.sigma:g} % of maximum"
    if task == "recon":
        c = tasks.recon
        return f"Cartesian {c.acceleration:g}x {c.pattern}, centre {c.centre:g}"
    return "clean"


def network(config: Config, task: Task, name: str) -> "Restorer":
    """Return an untrained network.

    Raises
    ------
    KeyError
        If there is no such network.
    """
    channels = 2 if task == "recon" else 1
    conditions = 1 if task == "denoise" else 0
    if name == "wavelet_vae":
        from medwvae.nets.wavelet_vae import Objective, WaveletVAE

        own = getattr(config.networks.wavelet_vae, task).model_dump()
        objective: Objective = "sparse" if task == "autoencode" else "restore"
        return WaveletVAE(objective=objective, channels=channels, conditions=conditions, **own)
    if name == "conv_vae":
        from medwvae.nets.conv_vae import ConvVAE

        return ConvVAE(
            channels=channels, conditions=conditions, **config.networks.conv_vae.model_dump(exclude={"learning_rate"})
        )
    if name == "unet":
        from medwvae.nets.unet import UNet

        return UNet(channels=channels, conditions=conditions, features=config.networks.unet.features)
    raise KeyError(name)


def training(config: Config, task: Task, network: str) -> "Settings":
    """Return the settings of the training loop."""
    from medwvae.train import Settings

    c, budget = config.train, config.budget(task)
    rate = config.networks.conv_vae.learning_rate if network == "conv_vae" else c.learning_rate
    return Settings(
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
        seed=config.seed,
        precision=c.precision,
        accelerator=c.accelerator,
        devices=c.devices,
    )
