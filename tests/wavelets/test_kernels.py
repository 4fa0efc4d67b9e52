"""The compiled kernels touch what the filters reach and nothing else."""

import numpy as np
import pytest
import pywt
import torch

from medwvae.wavelets import MODES, Mode, dwt, idwt
from medwvae.wavelets.filters import coefficient_length, is_haar
from medwvae.wavelets.haar import merge as haar_merge
from medwvae.wavelets.haar import split as haar_split
from medwvae.wavelets.kernels import merge, split
from medwvae.wavelets.matrices import axis_pair, banded
from tests.wavelets.cases import EXTENDING, image, tensors

GUARD = 64
BANKS = ("haar", "db2", "db3", "bior2.2", "bior4.4", "sym8", "db10")


def fenced(values):
    """Copy of an array between NaN in memory: what is read or written beyond its ends shows."""
    memory = np.full(values.size + 2 * GUARD, np.nan)
    inside = memory[GUARD : GUARD + values.size].reshape(values.shape)
    inside[...] = values
    return memory, inside


def check_fence(*memories):
    for memory in memories:
        assert np.isnan(memory[:GUARD]).all()
        assert np.isnan(memory[-GUARD:]).all()
        assert np.isfinite(memory[GUARD:-GUARD]).all()


def by_matrices(x, wavelet, mode):
    """(B, C, *spatial) to its bands in one array, low and high in turn along each axis, by dense products."""
    for axis in range(2, x.ndim):
        low, high = axis_pair(wavelet, mode, x.shape[axis], "analysis")
        both = np.stack([low.toarray(), high.toarray()])
        x = np.moveaxis(np.tensordot(both, x, (2, axis)), (0, 1), (axis - 2, axis))
        # The letters gather in front, first axis first.
        x = np.moveaxis(x, axis - 2, axis - 2)
    return x


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wavelet", BANKS)
def test_nothing_is_read_or_written_beyond_the_arrays(wavelet, mode):
    shapes = [(size,) for size in range(1, 17)] + [(3, size) for size in range(1, 17)] + [(2, 1, 5), (1, 6, 2)]
    for shape in shapes:
        check_one(shape, wavelet, mode)


def check_one(shape: tuple[int, ...], wavelet: str, mode: Mode) -> None:
    n = len(shape)
    counts = [coefficient_length(size, wavelet, mode) for size in shape]
    image_memory, x = fenced(image(*shape, batch=1, channels=2).numpy())
    low_memory, low = fenced(np.full((1, 2, *counts), np.nan))
    details_memory, details = fenced(np.full((1, 2**n - 1, 2, *counts), np.nan))
    back_memory, back = fenced(np.full(x.shape, np.nan))
    if is_haar(wavelet):
        haar_split(x, low, details, mode)
        haar_merge(low, details, back)
    else:
        split(x, low, details, [tuple(banded(wavelet, mode, size, "analysis", "float64")) for size in shape])
        merge(low, details, back, [tuple(banded(wavelet, mode, size, "synthesis", "float64")) for size in shape])
    check_fence(image_memory, low_memory, details_memory, back_memory)
    np.testing.assert_allclose(back, x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wavelet", BANKS)
def test_the_adjoints_stay_within_the_arrays_too(wavelet, mode):
    if is_haar(wavelet):
        pytest.skip("Haar's adjoints are its own transforms")
    for size in range(1, 17):
        count = coefficient_length(size, wavelet, mode)
        image_memory, x = fenced(image(size, batch=1, channels=2).numpy())
        low_memory, low = fenced(np.full((1, 2, count), np.nan))
        details_memory, details = fenced(np.full((1, 1, 2, count), np.nan))
        back_memory, back = fenced(np.full(x.shape, np.nan))
        split(x, low, details, [tuple(banded(wavelet, mode, size, "synthesis adjoint", "float64"))])
        merge(low, details, back, [tuple(banded(wavelet, mode, size, "analysis adjoint", "float64"))])
        check_fence(image_memory, low_memory, details_memory, back_memory)
        # (S A)ᵀ is the identity as well.
        np.testing.assert_allclose(back, x, rtol=0, atol=1e-9)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior4.4"])
@pytest.mark.parametrize("mode", EXTENDING)
@pytest.mark.parametrize("size", [32, 33])
def test_a_nan_stays_within_the_reach_of_the_filters(size, mode, wavelet):
    for place in range(size):
        x = image(size, batch=1, channels=1)
        x[..., place] = torch.nan
        reached = [np.isnan(band[0, 0]) for band in pywt.dwt(x.numpy(), wavelet, mode)]
        found = dwt(x, 1, 1, wavelet, mode)
        for band, own in zip((found.approximation[0, 0], found.details[0][0, 0, 0]), reached, strict=True):
            nan = band.isnan().numpy()
            assert nan.any()
            assert not (nan & ~own).any(), f"a NaN at {place} reaches coefficient {np.flatnonzero(nan & ~own)}"
        # Filters reach over the border only where the mode itself goes around it.
        if mode not in ("periodization", "periodic"):
            spread = idwt(found)[0, 0].isnan().nonzero()[:, 0]
            taps = pywt.Wavelet(wavelet).dec_len
            assert int((spread - place).abs().max()) <= 2 * taps


@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_a_nan_of_a_plane_stays_in_its_place(wavelet):
    x = image(24, 30, batch=2, channels=2)
    x[1, 0, 12, 0] = torch.nan
    spread = idwt(dwt(x, 1, 2, wavelet, "symmetric")).isnan().nonzero()
    assert {tuple(row) for row in spread[:, :2].tolist()} == {(1, 0)}
    assert int((spread[:, 2] - 12).abs().max()) <= 8
    assert int(spread[:, 3].max()) <= 8


@pytest.mark.parametrize("mode", MODES)
def test_tiny_images_of_all_shapes_are_what_the_matrices_say(mode):
    for wavelet in ("haar", "db2", "bior4.4", "db10"):
        for shape in ((1, 1), (1, 2), (2, 1), (3, 1), (1, 5), (3, 3), (1, 1, 1), (1, 2, 3), (3, 1, 1), (2, 2, 1)):
            check_matrices(shape, wavelet, mode)


def check_matrices(shape: tuple[int, ...], wavelet: str, mode: Mode) -> None:
    x = image(*shape, batch=1, channels=1)
    expected = x[0, 0]
    for axis, size in enumerate(shape):
        pair = axis_pair(wavelet, mode, size, "analysis")
        low, high = (torch.from_numpy(matrix.toarray()) for matrix in pair)
        # One more axis of two letters per step, in front of the spatial axes and after the letters before.
        expected = torch.stack(
            [torch.tensordot(m, expected, ([1], [2 * axis])).movedim(0, 2 * axis) for m in (low, high)], axis
        )
        expected = expected.movedim(axis, axis)
    bands = expected.flatten(0, len(shape) - 1) if len(shape) > 1 else expected
    found = dwt(x, 1, len(shape), wavelet, mode)
    torch.testing.assert_close(torch.cat((found.approximation[0], found.details[0][0, :, 0])), bands)
    for band in tensors(found):
        assert band.isfinite().all()
