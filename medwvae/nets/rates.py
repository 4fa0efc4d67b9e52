"""Which subbands of a transform hold one value for every `rate` pixels."""

import math
from typing import NamedTuple

from medwvae.errors import ConfigError
from medwvae.wavelets import subband_names


class Kept(NamedTuple):
    """All levels coarser than `level`, and of `level` itself the detail subbands `names`; nothing finer."""

    level: int
    names: tuple[str, ...]

    def indices(self, level: int, dims: int) -> list[int]:
        """Return which detail subbands of a level are kept, in storage order."""
        names = subband_names(dims)[1:]
        return [k for k, name in enumerate(names) if level > self.level or (level == self.level and name in self.names)]


def kept_subbands(rate: int, dims: int = 2, extra: tuple[str, ...] | None = None) -> Kept:
    """Return the subbands that hold pixels / `rate` values: the approximation of a level and some details of it.

    In 2D: rate 1 keeps everything, 4 drops the finest level, 16 the two finest, and 8 is 16 with one detail subband of
    level 2.

    Parameters
    ----------
    extra : tuple of str, optional
        The detail subbands; by default those with the fewest `d`, in storage order ('ad' in 2D).

    Raises
    ------
    ConfigError
        If no set of subbands has this rate, or `extra` are not as many as it takes.
    """
    level = max(1, math.ceil(math.log(max(rate, 1), 2**dims) - 1e-9))
    positions = 2 ** (dims * level)
    if rate < 1 or positions % rate:
        raise ConfigError(f"no whole number of subbands in {dims}D holds 1/{rate} of the pixels")
    count = positions // rate - 1
    names = sorted(subband_names(dims)[1:], key=lambda name: name.count("d"))
    chosen = tuple(names[:count]) if extra is None else tuple(extra)
    if len(set(chosen)) != count or not set(chosen) <= set(names):
        raise ConfigError(f"rate {rate} takes {count} detail subbands of level {level} out of {names}, not {chosen}")
    return Kept(level, chosen)
