"""A prior that can be sampled: a small diffusion model over a latent, or over its coarsest band alone.

Latent diffusion (Rombach et al. 2022) with MONAI's U-Net and schedulers (Pinaya et al. 2022): the autoencoder is
frozen, the model learns to remove noise from z, standardised per channel, and DDIM (Song et al. 2021) draws.
"""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler
from torch import Tensor
from torch.nn import functional as F

from medwvae.errors import ConfigError, InputError
from medwvae.nets.blocks import crop_to, pad_to_multiple
from medwvae.nets.labels import required
from medwvae.nets.latent import Latent, LatentModel, Shapes, latent_shapes
from medwvae.nets.latent_packing import Packing
from medwvae.nets.restorer import Estimate, Restorer
from medwvae.operators import Measurement

Target = Literal["epsilon", "v_prediction"]


class LatentDiffusion(Restorer):
    """Diffusion over the first `parts` parts of a frozen model's z, of any grid size (padded by replication).

    Measure the latents of the training images (`measure`) before the first step.

    Parameters
    ----------
    latent : LatentModel
        Encodes the images; its weights are frozen and travel with the state, so that a checkpoint can draw images.
    parts : int or None
        Parts that are modelled: 1 is the coarsest approximation alone, None all of them.
    classes : int
        Number of classes that a label can name; 0 for an unconditional prior.
    widths, blocks, attention : tuple of int, int, tuple of bool
        Channels, residual blocks and attention of each level of the U-Net; the middle always has attention.
    groups, head : int
        Groups of the group normalisation; channels of an attention head. `widths` are multiples of both.
    timesteps : int
        T of the noising chain, with the cosine schedule of Nichol and Dhariwal (2021).
    steps : int
        Steps of DDIM in a draw. Few steps narrow the draws: with an exact U-Net, 50 give latents of standard
        deviation 1 one of 0.98, of 0.1 one of 0.092.
    target : {"v_prediction", "epsilon"}
        What the U-Net predicts: v of Salimans and Ho (2022), sound down to no signal at all, or the noise.

    Raises
    ------
    ConfigError
        If there are more `steps` than `timesteps`, the widths do not fit, or there are not so many parts.
    """

    mean: Tensor
    deviation: Tensor
    measured: Tensor

    def __init__(
        self,
        latent: LatentModel,
        *,
        parts: int | None = None,
        classes: int = 0,
        widths: tuple[int, ...] = (64, 96, 128),
        blocks: int = 1,
        attention: tuple[bool, ...] | None = None,
        groups: int = 8,
        head: int = 32,
        timesteps: int = 1000,
        steps: int = 50,
        target: Target = "v_prediction",
    ) -> None:
        super().__init__()
        if not 1 <= steps <= timesteps:
            raise ConfigError(f"a draw has 1 to {timesteps} steps, the time steps of the diffusion, not {steps}")
        if any(width % groups or width % head for width in widths):
            raise ConfigError(
                f"the widths {widths} must be multiples of {groups} groups and of heads of {head} channels"
            )
        self.latent = latent.requires_grad_(False).eval()
        self.dims, self.classes, self.timesteps, self.steps = latent.dims, classes, timesteps, steps
        reference = latent_shapes(latent, getattr(latent, "shape", (32,) * latent.dims))
        if parts is not None and not 1 <= parts <= len(reference):
            raise ConfigError(f"this latent has 1 to {len(reference)} parts to model, not {parts}")
        self.parts, self.target = parts or len(reference), target
        channels = Packing(reference[: self.parts]).channels
        self.multiple = 2 ** (len(widths) - 1)
        self.unet = DiffusionModelUNet(
            spatial_dims=self.dims,
            in_channels=channels,
            out_channels=channels,
            num_res_blocks=blocks,
            channels=widths,
            attention_levels=attention or (False,) * len(widths),
            norm_num_groups=groups,
            num_head_channels=head,
            num_class_embeds=classes or None,
            use_flash_attention=True,
        )
        chain: Any = {"num_train_timesteps": timesteps, "schedule": "cosine", "prediction_type": target}
        self.noising = DDPMScheduler(clip_sample=False, **chain)
        self.denoising = DDIMScheduler(clip_sample=False, **chain)
        self.denoising.set_timesteps(steps)
        self.register_buffer("mean", torch.zeros(1, channels, *[1] * self.dims))
        self.register_buffer("deviation", torch.ones(1, channels, *[1] * self.dims))
        self.register_buffer("measured", torch.tensor(False))

    def train(self, mode: bool = True) -> "LatentDiffusion":
        """Set the mode of the diffusion alone: the frozen model stays in evaluation."""
        super().train(mode)
        self.latent.eval()
        return self

    @torch.no_grad()
    def measure(self, batches: Iterable[tuple[Tensor, Tensor | None]], generator: torch.Generator) -> None:
        """Store mean and standard deviation of every packed channel over training images.

        Parameters
        ----------
        batches : iterable of (image (B, C, *spatial), label (B,) or None)
        generator : torch.Generator
            Draws z from q(z | x).

        Raises
        ------
        InputError
            If there is no image.
        """
        count, total, squares = 0, torch.zeros_like(self.mean).double(), torch.zeros_like(self.mean).double()
        axes = (0, *range(2, 2 + self.dims))
        for image, label in batches:
            z = self._packed(image, label, generator)[0].double()
            count += z.numel() // z.shape[1]
            total += z.sum(axes, keepdim=True)
            squares += z.square().sum(axes, keepdim=True)
        if not count:
            raise InputError("no image to measure the latents of")
        mean = total / count
        self.mean.copy_(mean)
        self.deviation.copy_((squares / count - mean.square()).clamp(min=1e-12).sqrt())
        self.measured.fill_(True)

    def forward(self, measurement: Measurement, truth: Tensor | None = None) -> Estimate:
        """Train on the mean squared error of the prediction; answer with an image whose latent was half noise.

        The answer is deterministic: it measures, in image units, how well the prior removes a fixed noise, and serves
        to choose weights. The image of a training step is the truth, for no image is made there.

        Raises
        ------
        InputError
            If `measure` was not called.
        """
        if not self.measured:
            raise InputError("call `measure` with the training images before the first step of a latent diffusion")
        label = measurement.label
        if truth is None:
            image = self._denoised(measurement.start, label)
            return Estimate(image, image.new_zeros(()))
        with torch.no_grad():
            z, _ = self._packed(truth, label, None)
            z = (z - self.mean) / self.deviation
        grid = tuple(z.shape[2:])
        z = pad_to_multiple(z, self.multiple, self.dims)
        time = torch.randint(self.timesteps, (len(z),), device=z.device)
        noise = torch.randn_like(z)
        wanted = noise if self.target == "epsilon" else self.noising.get_velocity(z, noise, time)
        predicted = self._predict(self.noising.add_noise(z, noise, time), time, label)
        loss = F.mse_loss(crop_to(predicted, grid), crop_to(wanted, grid))
        return Estimate(truth, loss, {self.target: loss.detach()}, loss=loss)

    @torch.no_grad()
    def draw(
        self,
        count: int,
        shapes: Shapes,
        generator: torch.Generator,
        label: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Latent:
        """Draw the modelled parts of z for `count` images, in `steps` steps of DDIM.

        Parameters
        ----------
        shapes : tuple of tuple of int
            (C, *spatial) of the parts, as `latent_packing.latent_shapes` returns them; those beyond `parts` are
            ignored.
        generator : torch.Generator
            The same one gives the same draw (bit by bit on the CPU).
        temperature : float
            Standard deviation of the noise that DDIM starts from.
        """
        packing = Packing(shapes[: self.parts])
        padded = [size + -size % self.multiple for size in packing.grid]
        z = torch.randn(count, self.mean.shape[1], *padded, generator=generator, device=generator.device)
        z = temperature * z.to(self.mean.device)
        for time in self.denoising.timesteps.tolist():
            times = torch.full((count,), time, device=z.device)
            z, _ = self.denoising.step(self._predict(z, times, label), time, z)
        return packing.unpack(crop_to(z, packing.grid) * self.deviation + self.mean)

    def sample(
        self,
        count: int,
        shape: tuple[int, ...],
        generator: torch.Generator,
        label: Tensor | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw images of spatial `shape`, (count, C, *shape).

        Raises
        ------
        InputError
            If only some parts are modelled: the others need the model's own prior of them.
        """
        shapes = latent_shapes(self.latent, shape)
        if len(shapes) > self.parts:
            raise InputError(f"this diffusion draws {self.parts} of the {len(shapes)} parts of z; draw the others too")
        z = self.draw(count, shapes, generator, label, temperature)
        with torch.no_grad():
            return self.latent.decode(z, shape, label if self.latent.classes else None)

    def _encode(self, image: Tensor, label: Tensor | None, generator: torch.Generator | None) -> Latent:
        posterior = self.latent.encode(image, label if self.latent.classes else None)
        return posterior.sample(generator)

    def _packed(self, image: Tensor, label: Tensor | None, generator: torch.Generator | None) -> tuple[Tensor, Latent]:
        z = self._encode(image.to(self.mean.device), label, generator)
        packing = Packing(tuple(tuple(part.shape[1:]) for part in z[: self.parts]))
        return packing.pack(z[: self.parts]).float(), z

    def _predict(self, z: Tensor, time: Tensor, label: Tensor | None) -> Tensor:
        answer: Tensor = self.unet(z, time, class_labels=required(label) if self.classes else None)
        return answer.float()

    @torch.no_grad()
    def _denoised(self, x: Tensor, label: Tensor | None) -> Tensor:
        generator = torch.Generator(x.device).manual_seed(0)
        packed, z = self._packed(x, label, generator)
        grid = tuple(packed.shape[2:])
        clean = pad_to_multiple((packed - self.mean) / self.deviation, self.multiple, self.dims)
        noise = torch.randn(clean.shape, generator=generator, device=x.device)
        time = torch.full((len(x),), self.timesteps // 2, device=x.device)
        noisy = self.noising.add_noise(clean, noise, time)
        _, clean = self.denoising.step(self._predict(noisy, time, label), self.timesteps // 2, noisy)
        packing = Packing(tuple(tuple(part.shape[1:]) for part in z[: self.parts]))
        parts = packing.unpack(crop_to(clean, grid) * self.deviation + self.mean)
        return self.latent.decode(
            (*parts, *z[self.parts :]), tuple(x.shape[2:]), label if self.latent.classes else None
        )
