"""In which numbers, and on what, networks compute."""

from typing import Any

import torch

from medwvae.errors import ConfigError


def exact_float32(precision: str) -> None:
    """Have convolutions in float32 compute in float32 where that is the precision that was chosen (`32-true`).

    Without it cuDNN rounds their factors to the 10 bits of TF32, and by another algorithm for another size: the answer
    of a tile would not be that of the whole. Beside mixed precision (any other name of Fabric's) TF32 stays allowed, as
    PyTorch has it. For this process, until the next call; of no effect without a card.
    """
    torch.backends.cudnn.allow_tf32 = precision != "32-true"


def best_precision(accelerator: str) -> str:
    """bf16 autocast where the hardware has bf16 instructions, else float32."""
    if accelerator in ("cuda", "auto") and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    has_bf16 = torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    # The CPU emulates bf16 where it lacks the instructions: slower than float32, so look before using it.
    capable = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
    return "bf16-mixed" if has_bf16 and capable else "32-true"


def device_for(accelerator: str) -> str:
    """Return the torch device that Lightning Fabric's accelerator name stands for on this machine."""
    if accelerator in ("auto", "cuda") and torch.cuda.is_available():
        return "cuda"
    if accelerator in ("auto", "mps") and torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def plugin(precision: str, accelerator: str) -> Any:
    """Return Lightning Fabric's plugin for a precision.

    Its own one for mixed precision rounds every tensor that goes into a module, whatever reads it: measured data, which
    have to be agreed with exactly, would be known to three digits. Here autocast alone decides what is rounded.

    Raises
    ------
    ConfigError
        If there is no such precision on the accelerator.
    """
    from lightning_fabric.plugins.precision.amp import MixedPrecision
    from lightning_fabric.plugins.precision.precision import Precision

    if precision == "32-true":
        return Precision()
    device = device_for(accelerator)
    if precision == "16-mixed" and device == "cpu":
        raise ConfigError("train.precision: 16-mixed is for cards; take bf16-mixed, 32-true or auto")

    class AutocastAlone(MixedPrecision):  # type: ignore[misc]
        """Mixed precision that hands data on as they are."""

        def convert_input(self, data: Any) -> Any:
            return data

    return AutocastAlone(precision, device)
