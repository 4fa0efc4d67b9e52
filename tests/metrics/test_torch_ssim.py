"""The SSIM in PyTorch: equal to scikit-image in float64, whatever the blocks; masks; tensors; MS-SSIM."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from medwvae.fidelity.diversity import ms_ssim as of_images
from medwvae.metrics import ms_ssim, psnr, similarity, ssim, ssim_map, ssim_tensor
from medwvae.metrics.filters import bands

OPTIONS = {"gaussian": {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}, "uniform": {}}


def pair(shape, seed=0):
    rng = np.random.default_rng(seed)
    ref = rng.random(shape)
    return ref + 0.1 * rng.standard_normal(shape), ref


@settings(max_examples=12, deadline=None)
@given(
    st.tuples(*[st.integers(11, 60)] * 3),
    st.sampled_from(["gaussian", "uniform"]),
    st.sampled_from([None, 200, 3000, 300_000]),
    st.integers(0, 99),
)
def test_compiled_or_in_blocks_it_is_scikit_image(shape, kind, slab, seed):
    x, ref = pair(shape, seed)
    expected = structural_similarity(x, ref, data_range=1.0, full=True, **OPTIONS[kind])[1]
    with pytest.MonkeyPatch.context() as patch:
        if slab:  # as where there is no Numba, and on other devices
            patch.setattr(similarity, "compiled_kernels", lambda *images: False)
            patch.setitem(similarity._SLAB, "cpu", slab)
        found = ssim_map(x, ref, data_range=1.0, kind=kind, dims=3)
        np.testing.assert_allclose(found, expected, atol=1e-9)
        one = structural_similarity(x[3], ref[3], data_range=1.0, full=True, **OPTIONS[kind])[1]
        np.testing.assert_allclose(ssim_map(x, ref, data_range=1.0, kind=kind, dims=2)[3], one, atol=1e-9)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 99), st.sampled_from(["gaussian", "uniform"]), st.sampled_from([2, 3]), st.data())
def test_a_mask_costs_nothing_but_changes_nothing(seed, kind, dims, data):
    x, ref = pair((14, 30, 28), seed)
    mask = np.zeros(x.shape, bool)
    start = [data.draw(st.integers(0, n - 1)) for n in x.shape]
    mask[tuple(slice(s, s + data.draw(st.integers(1, 9))) for s in start)] = True
    whole = ssim_map(x, ref, data_range=1.0, kind=kind, dims=dims)
    found = ssim(x, ref, data_range=1.0, kind=kind, dims=dims, mask=mask)
    assert found == pytest.approx(whole[mask].mean(), abs=1e-12)


def test_tensors_and_batches_are_as_arrays():
    x, ref = pair((2, 3, 12, 13, 14))
    a, b = torch.from_numpy(x), torch.from_numpy(ref)
    found = ssim_tensor(a, b, data_range=1.0, kind="uniform", dims=3)
    single = ssim_map(x[1, 2], ref[1, 2], data_range=1.0, kind="uniform", dims=3)
    np.testing.assert_allclose(found[1, 2].numpy(), single, atol=1e-12)
    assert psnr(a, b, data_range=1.0) == pytest.approx(psnr(x, ref, data_range=1.0))
    assert ssim(a, b, data_range=1.0, kind="uniform", dims=3) == pytest.approx(float(found.mean()))


def test_the_matrix_of_a_filter_keeps_constants_and_is_banded():
    for kernel, total in (("gaussian", 1), ("uniform", 1), ("smooth", 1), ("curvature", 0)):
        for size in (3, 11, 50):
            rows = torch.cat([band.weights.sum(1) for band in bands(size, kernel, torch.device("cpu"))])
            np.testing.assert_allclose(rows.numpy(), total, atol=2e-3 if total == 0 else 1e-12)
            assert len(rows) == size


def test_ms_ssim_is_monais_slice_by_slice_and_a_mask_is_its_box():
    x, ref = pair((3, 50, 64))
    expected = of_images(torch.from_numpy(x)[:, None], torch.from_numpy(ref)[:, None], data_range=1.0).mean()
    assert ms_ssim(x, ref, data_range=1.0, dims=2) == pytest.approx(float(expected), abs=1e-6)
    mask = np.zeros(x.shape, bool)
    mask[1:3, 4:30, 10:60] = True
    cropped = ms_ssim(x[1:3, 4:30, 10:60], ref[1:3, 4:30, 10:60], data_range=1.0, dims=2)
    assert ms_ssim(x, ref, data_range=1.0, dims=2, mask=mask) == pytest.approx(cropped, abs=1e-6)
    mask[...] = False
    mask[0, 20, 20] = True  # smaller than the window: the box grows to it
    assert 0 <= ms_ssim(x, ref, data_range=1.0, dims=2, mask=mask) <= 1
