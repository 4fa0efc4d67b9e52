"""What float32 means on a card."""

import torch


def exact_float32(precision: str) -> None:
    """Have convolutions in float32 compute in float32 where that is the precision that was chosen (`32-true`).

    Without it cuDNN rounds their factors to the 10 bits of TF32, and by another algorithm for another size: the answer
    of a tile would not be that of the whole. Beside mixed precision (any other name of Fabric's) TF32 stays allowed, as
    PyTorch has it. For this process, until the next call; of no effect without a card.
    """
    torch.backends.cudnn.allow_tf32 = precision != "32-true"
