"""Sensitivity maps and what can be reconstructed with them; the real 8-coil data where they are at hand."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.data import shepp_logan_phantom
from skimage.transform import resize

from medwvae.errors import MedwvaeError
from medwvae.operators import (
    CoilSampling,
    birdcage_maps,
    cartesian_mask,
    espirit_maps,
    from_centred,
    low_resolution_maps,
    partial_fourier_mask,
    poisson_disc_mask,
    sample_kspace,
    smooth_phase,
    with_phase,
)
from medwvae.operators.coils import root_sum_of_squares
from medwvae.operators.fourier import fourier, inverse_fourier
from tests.operators.cases import generator, real

SHAPE = (48, 40)
SHARED = Path(__file__).parents[3] / "shared" / "data" / "kspace" / "brain_8ch_cartesian_undersampled.npy"


def brain():
    head = torch.from_numpy(resize(shepp_logan_phantom(), SHAPE, anti_aliasing=True)).float()[None, None]
    return with_phase(head, smooth_phase(SHAPE, generator(0), 0.3))


def sigpy():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("sigpy.mri", reason="SigPy is an extra", exc_type=ImportError)


@pytest.mark.parametrize("coils", [4, 8])
def test_birdcage_maps_are_sigpys(coils):
    theirs = sigpy().birdcage_maps((coils, *SHAPE))
    theirs = theirs / np.sqrt((np.abs(theirs) ** 2).sum(0))
    np.testing.assert_allclose(birdcage_maps(SHAPE, coils)[0].numpy(), theirs, rtol=0, atol=1e-5)


def test_maps_in_three_dimensions_stand_on_rings():
    maps = birdcage_maps((6, *SHAPE), 8, rings=2)
    assert maps.shape == (1, 8, 6, *SHAPE)
    torch.testing.assert_close(root_sum_of_squares(maps), torch.ones(1, 1, 6, *SHAPE))
    # The first ring sees the first slices better.
    energy = maps.abs().square().sum((0, 3, 4))
    assert (energy[:4, 0] > energy[:4, -1]).all()
    assert (energy[4:, 0] < energy[4:, -1]).all()
    for rings, shape in ((3, (6, *SHAPE)), (2, SHAPE)):
        with pytest.raises(ValueError, match="rings"):
            birdcage_maps(shape, 8, rings=rings)


def test_low_resolution_maps_find_those_that_were_there_up_to_one_phase():
    truth, image = birdcage_maps(SHAPE, 8), brain()
    everything = torch.ones(1, 1, *SHAPE, dtype=torch.bool)
    kspace = CoilSampling(everything, truth, 2).forward(image)
    maps = low_resolution_maps(kspace, (16, 16))
    trusted = maps.abs().sum(1)[0] > 0
    assert 0.3 < float(trusted.float().mean()) < 0.95
    assert float(root_sum_of_squares(maps)[0, 0][trusted].sub(1).abs().max()) < 1e-5
    agreement = (maps * truth.conj()).sum(1)[0].abs()[trusted]
    assert float(agreement.mean()) > 0.98


def test_espirit_explains_the_data_where_sigpy_is_installed():
    sigpy()
    truth, image = birdcage_maps(SHAPE, 6), brain()
    mask = torch.ones(1, 1, *SHAPE, dtype=torch.bool)
    kspace = CoilSampling(mask, truth, 2).forward(image)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        maps = espirit_maps(kspace, 20)
    trusted = maps.abs().sum(1)[0] > 0
    agreement = (maps * truth.conj()).sum(1)[0].abs()[trusted]
    assert float(trusted.float().mean()) > 0.2
    assert float(agreement.mean()) > 0.98


def test_espirit_without_sigpy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sigpy.mri.app", None)
    with pytest.raises(MedwvaeError, match=r"medwvae\[mri\]"):
        espirit_maps(torch.zeros(1, 2, 8, 8, dtype=torch.complex64), 4)


@pytest.mark.parametrize("kind", ["columns", "poisson-disc", "partial"])
def test_several_coils_see_more_than_one(kind):
    image, columns = brain(), 8
    if kind == "poisson-disc":
        mask = poisson_disc_mask(SHAPE, 4, (8, 8), generator(1))
    else:
        mask = cartesian_mask(SHAPE[1], 2, columns / SHAPE[1], "equispaced", generator(1))
        if kind == "partial":
            mask = mask & partial_fourier_mask(SHAPE[1], 0.75)
    rows = 8 if kind == "poisson-disc" else None
    one: Any = sample_kspace(image, mask, columns, centre_rows=rows)
    eight: Any = sample_kspace(image, mask, columns, centre_rows=rows, maps=birdcage_maps(SHAPE, 8))
    assert eight.data.shape == (1, 8, *SHAPE)
    assert not eight.data[~eight.mask.expand_as(eight.data)].any()
    assert eight.kspace is None
    truths = [
        inverse_fourier(fourier(torch.complex(image[:, :1], image[:, 1:]))) * m.phasor.conj() for m in (one, eight)
    ]
    found = [m.operator.project(m.start, m.data, 30) for m in (one, eight)]
    errors = [
        float((torch.complex(x[:, :1], x[:, 1:]) - t).norm() / t.norm()) for x, t in zip(found, truths, strict=True)
    ]
    assert errors[1] < 0.5 * errors[0]
    # What was measured is met.
    assert float((eight.operator.forward(found[1]) - eight.data).abs().max()) < 0.01 * float(eight.data.abs().max())


@pytest.mark.parametrize("shape", [(6, 8), (7, 9), (5, 6, 8)])
def test_scanners_kspace_becomes_a_centred_image(shape):
    dims = len(shape)
    axes = tuple(range(-dims, 0))
    kspace = torch.complex(real((2, 3, *shape), 0), real((2, 3, *shape), 1))
    image = np.fft.fftshift(
        np.fft.ifftn(np.fft.ifftshift(kspace.numpy(), axes=axes), axes=axes, norm="ortho"), axes=axes
    )
    np.testing.assert_allclose(inverse_fourier(from_centred(kspace, dims), dims).numpy(), image, atol=1e-12)
    zeros = torch.where(torch.arange(shape[-1]) % 2 == 0, kspace, 0)
    assert int((from_centred(zeros, dims) == 0).sum()) == int((zeros == 0).sum())


@pytest.mark.skipif(not SHARED.exists(), reason="no real 8-coil k-space here")
def test_real_coils_explain_each_other():
    centred = torch.from_numpy(np.load(SHARED))[None]
    kspace = from_centred(centred)
    mask = (kspace != 0).any(1, keepdim=True)
    maps = low_resolution_maps(kspace, (24, 24))
    operator = CoilSampling(mask, maps, 2)
    start = operator.adjoint(kspace)
    image = operator.project(start, kspace, 10)
    explained = 1 - float((operator.forward(image) - kspace).norm() / kspace.norm())
    assert explained > 0.94  # zero-filled: 0.88
