"""A study's volumes that are in memory already."""

from pathlib import Path
from typing import Any

from medwvae.generative.sources import Slices, Volumes


class SlicesInMemory(Slices):
    """Slices of test volumes of two contrasts, in one frame."""

    classes = ("t1w", "t2w")
    in_memory: Any

    def __init__(self, cases, size):
        super().__init__(Path("none"), size, mirror=False, per_volume=1)
        object.__setattr__(self, "in_memory", cases)

    def cases(self, part):
        assert part == "test"
        return self.in_memory


class VolumesInMemory(Volumes):
    """Test volumes of two contrasts, in one grid."""

    classes = ("t1w", "t2w")
    spacing = (2.0, 2.0, 3.0)
    in_memory: Any

    def __init__(self, cases, size, block=(1, 1, 1)):
        super().__init__(Path("none"), size, mirror=False, block=block)
        object.__setattr__(self, "in_memory", cases)

    def cases(self, part):
        assert part == "test"
        return [self.fitted(one) for one in self.in_memory]
