"""Class labels as channels: how a conventional network reads the contrast or modality of an image."""

import torch
from torch import Tensor, nn

from medwvae.errors import InputError


class LabelChannels(nn.Module):
    """Append a learned embedding of the label, constant over space, to the channels; the identity without classes.

    Parameters
    ----------
    classes : int
        Number of classes; 0 for none.
    width : int
        Channels of the embedding; `added` is 0 without classes.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.added = width if classes else 0
        self.table = nn.Embedding(classes, width) if classes else None

    def forward(self, x: Tensor, label: Tensor | None) -> Tensor:
        """Map (B, C, *spatial) and (B,) int64 to (B, C + added, *spatial); InputError if the label is missing."""
        if self.table is None:
            return x
        own = self.table(required(label))
        return torch.cat((x, own.reshape(*own.shape, *[1] * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])), dim=1)


def required(label: Tensor | None) -> Tensor:
    """Return the label; InputError if there is none."""
    if label is None:
        raise InputError("this model was built with classes: give the label of every image, int64 of shape (B,)")
    return label
