"""MONAI's sliding window: why it is not used, and where ours agrees with it."""

import numpy as np
import pytest
import torch
from monai.inferers.utils import sliding_window_inference

from medwvae.inference import memory, whole
from medwvae.inference.footprint import Footprint
from medwvae.inference.whole import from_array, infer


def tiled(function, image, voxels, footprint, monkeypatch):
    monkeypatch.setattr(memory, "room", lambda device, ceiling=None: voxels)
    monkeypatch.setattr(whole, "bytes_per_voxel", lambda *_: 1.0)
    out = np.empty_like(image)
    infer(function, from_array(image), out, footprint)
    return out


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
def test_monai_rounds_the_identity_and_ours_does_not(monkeypatch):
    image = np.random.default_rng(0).standard_normal((1, 50, 41)).astype(np.float32)
    theirs = sliding_window_inference(torch.from_numpy(image)[None], (16, 16), 4, lambda x: x, 0.6, "gaussian")
    assert not np.array_equal(theirs[0].numpy(), image)
    np.testing.assert_allclose(theirs[0].numpy(), image, atol=1e-5)
    np.testing.assert_array_equal(tiled(lambda x: x, image, 16 * 16, Footprint((1, 1), (5, 5)), monkeypatch), image)


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning")
def test_monai_moves_windows_off_the_grid_and_counts_their_borders(monkeypatch):
    blur = torch.nn.Conv2d(1, 1, 5, padding=2, bias=False)

    def blurred_in_blocks(x):
        """Pairs of voxels are averaged first, as a transform of one level sees them."""
        with torch.no_grad():
            return blur(torch.nn.functional.avg_pool2d(x, 2).repeat_interleave(2, 2).repeat_interleave(2, 3))

    image = np.random.default_rng(0).standard_normal((1, 38, 54)).astype(np.float32)
    expected = blurred_in_blocks(torch.from_numpy(image)[None])[0].numpy()
    theirs = sliding_window_inference(torch.from_numpy(image)[None], (17, 17), 4, lambda x: x * 0 + 1, 0.5)
    assert float((theirs - 1).abs().max()) < 1e-6
    windows = []

    def seen(x):
        windows.append(x)
        return blurred_in_blocks(x)

    theirs = sliding_window_inference(torch.from_numpy(image)[None], (18, 18), 1, seen, 0.5)[0].numpy()
    assert np.abs(theirs - expected).max() > 1e-2
    ours = tiled(blurred_in_blocks, image, 18 * 18, Footprint((2, 2), (2, 2)), monkeypatch)
    np.testing.assert_allclose(ours, expected, atol=1e-6)
