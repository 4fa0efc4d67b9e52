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
from tests.wavelets.cases import EXTENDING, image

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
    """Subbands of an image (*spatial) in storage order, by dense products."""
    bands = [x]
    for axis, size in enumerate(x.shape):
        pair = [matrix.toarray() for matrix in axis_pair(wavelet, mode, size, "analysis")]
        bands = [np.moveaxis(np.tensordot(m, band, (1, axis)), 0, axis) for band in bands for m in pair]
    return np.stack(bands)


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
@pytest.mark.parametrize("wavelet", BANKS[1:])
def test_the_adjoints_stay_within_the_arrays_too(wavelet, mode):
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


def check_reach(size, place, mode, wavelet):
    """A NaN reaches the coefficients that it reaches in PyWavelets at most, and comes back near its place."""
    x = image(size, batch=1, channels=1)
    x[..., place] = torch.nan
    found = dwt(x, 1, 1, wavelet, mode)
    expected = pywt.dwt(x.numpy(), wavelet, mode)
    for band, own in zip((found.approximation, found.details[0][:, 0]), expected, strict=True):
        assert band.isnan().any()
        assert not (band.isnan().numpy() & ~np.isnan(own)).any()
    spread = idwt(found)[0, 0].isnan().nonzero()[:, 0] - place
    away = (
        spread.abs() if mode not in ("periodization", "periodic") else (spread + size // 2).remainder(size) - size // 2
    )
    assert int(away.abs().max()) <= 2 * pywt.Wavelet(wavelet).dec_len


@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior4.4"])
@pytest.mark.parametrize("mode", EXTENDING)
@pytest.mark.parametrize("size", [64, 65])
def test_a_nan_inside_stays_within_the_reach_of_the_filters(size, mode, wavelet):
    taps = pywt.Wavelet(wavelet).dec_len
    for place in range(taps + 1, size - taps - 1):
        check_reach(size, place, mode, wavelet)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior4.4"])
@pytest.mark.parametrize("mode", ["symmetric", "reflect", "zero", "constant"])
@pytest.mark.parametrize("size", [64, 65])
def test_a_nan_at_a_border_stays_within_the_reach_of_the_filters(size, mode, wavelet):
    taps = pywt.Wavelet(wavelet).dec_len
    for place in (*range(taps + 1), *range(size - taps - 1, size)):
        check_reach(size, place, mode, wavelet)


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
    found = dwt(x, 1, len(shape), wavelet, mode)
    bands = torch.cat((found.approximation[0], found.details[0][0, :, 0]))
    np.testing.assert_allclose(bands, by_matrices(x[0, 0].numpy(), wavelet, mode), rtol=0, atol=1e-12)
