"""Lost pixels without training: the smoothest surface through what is known."""

import numpy as np
import torch
from torch import Tensor

from medwvae.operators import Masking, Measurement


def biharmonic(measurement: Measurement) -> Tensor:
    """Solve the biharmonic equation over the lost pixels (Damelin and Hoang 2018, as in scikit-image).

    Slices of one acquisition have lost the same pixels and share one system of equations.
    """
    from skimage.restoration import inpaint_biharmonic

    if not isinstance(measurement.operator, Masking):
        raise ValueError("inpainting needs a mask of known pixels")
    start = measurement.start[:, 0].cpu().numpy()
    lost = ~measurement.operator.mask[:, 0].cpu().numpy()
    if len(lost) == 1 or bool((lost == lost[:1]).all()):
        out = np.moveaxis(inpaint_biharmonic(np.moveaxis(start, 0, -1), lost[0], channel_axis=-1), -1, 0)
    else:
        out = np.stack([inpaint_biharmonic(image, own) for image, own in zip(start, lost, strict=True)])
    return torch.from_numpy(out.astype(np.float32))[:, None].to(measurement.start).clamp(min=0)
