"""Images and features of the tests."""

import torch


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def blobs(count, size=32, seed=0, channels=1):
    """Smooth random images in [0, 1], different from one another."""
    x = torch.nn.functional.interpolate(noise(count, channels, 6, 6, seed=seed), (size, size), mode="bicubic")
    return torch.sigmoid(x).float()
