"""The networks on volumes that `volumes.py` compares, and one answer and one training step of each."""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from medwvae.nets.restorer import Estimate, Restorer
from medwvae.nets.unet import UNet
from medwvae.nets.wavelet_vae import WaveletVAE
from medwvae.operators import Measurement
from medwvae.precision import best_precision

SIGMA = 0.05
OURS, RIVAL = "wavelet_vae", "basic_unet"
NETWORKS = (OURS, RIVAL, "dyn_unet", "autoencoder_kl")


class DynamicUNet(UNet):
    """MONAI's DynUNet, nnU-Net's network, with five levels and the features that it has by default."""

    def __init__(self, *, conditions: int) -> None:
        super().__init__(dims=3, conditions=conditions)
        from monai.networks.nets.dynunet import DynUNet

        strides = (1, 2, 2, 2, 2)
        self.body = DynUNet(
            3, 1 + conditions, 1, kernel_size=(3,) * 5, strides=strides, upsample_kernel_size=strides[1:]
        )


class Autoencoder(Restorer):
    """MONAI's AutoencoderKL as a network on volumes: image + KL, no data consistency."""

    dims = 3

    def __init__(self) -> None:
        super().__init__()
        from monai.networks.nets.autoencoderkl import AutoencoderKL

        self.body = AutoencoderKL(
            spatial_dims=3, in_channels=1, out_channels=1, channels=(32, 64, 64), num_res_blocks=(1, 1, 1),
            attention_levels=(False,) * 3, latent_channels=3, norm_num_groups=16, with_encoder_nonlocal_attn=False,
            with_decoder_nonlocal_attn=False,
        )  # fmt: skip

    def alignment(self) -> tuple[int, ...]:
        """See `Restorer.alignment`."""
        return (4,) * 3

    def forward(self, measurement: Measurement, truth: Tensor | None = None) -> Estimate:
        """See `Restorer.forward`."""
        image, mean, sigma = self.body(measurement.start)
        kl = 0.5 * (mean.square() + sigma.square() - 2 * sigma.log() - 1).mean()
        return Estimate(image.float(), 1e-6 * kl)


def network(name: str) -> Restorer:
    """Return an untrained network: ours with one block a level, the others as MONAI makes them.

    But for BasicUNet's normalisation: it has none, as in the studies, where it restores better so. With one block ours
    is as good as the studies' BasicUNet after the same seconds, with two it is better (docs/performance.md).
    """
    torch.manual_seed(0)
    if name == OURS:
        return WaveletVAE(dims=3, conditions=1, blocks=1, noise="coefficient")
    if name == RIVAL:
        return UNet(dims=3, conditions=1, features=(32, 32, 64, 128, 256, 32))
    return DynamicUNet(conditions=1) if name == "dyn_unet" else Autoencoder()


def precision_of(options: argparse.Namespace) -> str:
    """Return what --precision stands for on --device."""
    return best_precision(options.device) if options.precision == "auto" else str(options.precision)


def mixed(options: argparse.Namespace) -> torch.autocast:
    """Return the autocast of --precision."""
    precision = precision_of(options)
    kind = torch.float16 if precision == "16-mixed" else torch.bfloat16
    return torch.autocast(options.device, kind, enabled=precision != "32-true")


def answering(model: Restorer, options: argparse.Namespace) -> Callable[[Tensor], Tensor]:
    """Return the answer of a network to noisy volumes (1, 1, *spatial)."""

    def answer(x: Tensor) -> Tensor:
        with torch.no_grad(), mixed(options):
            return model(_measured(x)).image

    return answer


def stepping(model: Restorer, options: argparse.Namespace) -> Callable[[Tensor], None]:
    """Return a training step of a network on clean volumes (1, 1, *spatial)."""
    optimiser = torch.optim.AdamW(model.parameters())

    def step(x: Tensor) -> None:
        with mixed(options):
            estimate = model(_measured(x + 0.1), x)
        loss = (estimate.image - x).abs().mean() + estimate.penalty
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def _measured(start: Tensor) -> Measurement:
    return Measurement(start, sigma=torch.full((1, 1, 1, 1, 1), SIGMA, device=start.device))
