"""Which slice of a head to show."""

import numpy as np
from numpy.typing import NDArray


def middle(profile: NDArray[np.floating], axis: int) -> int:
    """Return the index of a slice through the middle of the anatomy.

    Parameters
    ----------
    profile : array (S,)
        How much of the anatomy each slice holds, in the canonical order (RAS+).
    axis : {0, 1, 2}
        Axis of the volume across the slices. Across axial ones (2) the middle lies above the centre of gravity, which
        in a head scan is pulled down by the neck and the face.
    """
    share = np.cumsum(profile) / max(float(np.sum(profile)), 1e-12)
    return min(int(np.searchsorted(share, 0.65 if axis == 2 else 0.5)), len(profile) - 1)
