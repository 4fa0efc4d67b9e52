import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import metrics as reference

from medwvae.metrics import SsimKind, nmse, psnr, ssim, ssim_map, ssim_tensor, voxels

SKIMAGE = {
    "gaussian": {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False},
    "uniform": {},
}
KINDS: tuple[SsimKind, ...] = ("gaussian", "uniform")


def pair(shape, seed=0):
    rng = np.random.default_rng(seed)
    ref = rng.random(shape)
    return (ref + 0.1 * rng.standard_normal(shape)), ref


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ssim_map_2d_equals_scikit_image_slice_by_slice(kind, dtype):
    x, ref = (a.astype(dtype) for a in pair((4, 17, 23)))
    expected = [
        reference.structural_similarity(a, b, data_range=1.3, full=True, **SKIMAGE[kind])[1]
        for a, b in zip(x.astype(float), ref.astype(float), strict=True)
    ]
    np.testing.assert_allclose(ssim_map(x, ref, data_range=1.3, kind=kind, dims=2), expected, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_ssim_map_3d_equals_scikit_image(kind):
    x, ref = pair((13, 17, 12))
    expected = reference.structural_similarity(x, ref, data_range=1.3, full=True, **SKIMAGE[kind])[1]
    np.testing.assert_allclose(ssim_map(x, ref, data_range=1.3, kind=kind, dims=3), expected, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_ssim_without_the_rim_is_scikit_images_scalar(kind):
    x, ref = pair((30, 25))
    rim = (11 if kind == "gaussian" else 7) // 2
    interior = np.zeros(x.shape, bool)
    interior[rim:-rim, rim:-rim] = True
    expected = reference.structural_similarity(x, ref, data_range=1.0, **SKIMAGE[kind])
    assert ssim(x, ref, data_range=1.0, kind=kind, dims=2, mask=interior) == pytest.approx(expected, abs=1e-10)


def test_psnr_and_nmse_equal_scikit_image():
    x, ref = pair((3, 8, 9))
    assert psnr(x, ref, data_range=2.0) == pytest.approx(reference.peak_signal_noise_ratio(ref, x, data_range=2.0))
    assert nmse(x, ref) == pytest.approx(reference.normalized_root_mse(ref, x) ** 2)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(11, 20), st.integers(11, 20)),
    seed=st.integers(0, 2**16),
    scale=st.floats(1e-3, 1e3),
)
def test_metrics_do_not_depend_on_the_unit_of_the_image(shape, seed, scale):
    x, ref = pair(shape, seed)
    assert psnr(scale * x, scale * ref, data_range=scale) == pytest.approx(psnr(x, ref, data_range=1.0))
    assert nmse(scale * x, scale * ref) == pytest.approx(nmse(x, ref))
    for kind in KINDS:
        scaled = ssim(scale * x, scale * ref, data_range=scale, kind=kind, dims=2)
        assert scaled == pytest.approx(ssim(x, ref, data_range=1.0, kind=kind, dims=2))


@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=st.integers(0, 2**16))
def test_masked_metric_is_the_metric_of_the_crop(data, seed):
    x, ref = pair((6, 12, 13), seed)
    box = tuple(slice(start, data.draw(st.integers(start + 1, size))) for start, size in ((1, 6), (2, 12), (5, 13)))
    mask = np.zeros(x.shape, bool)
    mask[box] = True
    assert psnr(x, ref, data_range=1.0, mask=mask) == pytest.approx(psnr(x[box], ref[box], data_range=1.0))
    assert nmse(x, ref, mask=mask) == pytest.approx(nmse(x[box], ref[box]))
    for kind in KINDS:
        cropped = ssim_map(x, ref, data_range=1.0, kind=kind, dims=2)[box]
        assert ssim(x, ref, data_range=1.0, kind=kind, dims=2, mask=mask) == pytest.approx(cropped.mean())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), kind=st.sampled_from(KINDS), dims=st.sampled_from([2, 3]))
def test_ssim_is_symmetric_at_most_one_and_one_for_itself(seed, kind, dims):
    x, ref = pair((12, 12, 14), seed)
    options = {"data_range": 1.0, "kind": kind, "dims": dims}
    assert ssim(ref, ref, **options) == pytest.approx(1.0, abs=1e-12)
    forth, back = ssim_map(x, ref, **options), ssim_map(ref, x, **options)
    np.testing.assert_allclose(forth, back, atol=1e-12)
    assert forth.max() <= 1 + 1e-12


def test_slices_do_not_see_each_other_in_2d_but_do_in_3d():
    x, ref = pair((12, 12, 12))
    other = ref.copy()
    other[6] = x[6]
    flat = ssim_map(other, ref, data_range=1.0, kind="gaussian", dims=2)
    solid = ssim_map(other, ref, data_range=1.0, kind="gaussian", dims=3)
    np.testing.assert_allclose(np.delete(flat, 6, 0), 1, atol=1e-12)
    assert solid[5].mean() < 0.99


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 400_000), st.sampled_from([np.float32, np.float64]), st.booleans(), st.integers(0, 99))
def test_compiled_sums_are_those_in_pytorch(size, dtype, masked, seed):
    rng = np.random.default_rng(seed)
    x, ref = (rng.normal(size=size).astype(dtype) for _ in range(2))
    mask = rng.random(size) < 0.3 if masked else None
    if mask is not None:
        mask[size // 2] = True
        x[~mask] = np.nan  # what lies outside is not looked at
    found = psnr(x, ref, data_range=1.0, mask=mask), nmse(x, ref, mask=mask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(voxels, "compiled_kernels", lambda *images: False)
        assert found == pytest.approx((psnr(x, ref, data_range=1.0, mask=mask), nmse(x, ref, mask=mask)), rel=1e-12)


def test_integers_and_views_are_as_their_values():
    rng = np.random.default_rng(0)
    x, ref = (torch.from_numpy(rng.integers(0, 99, (24, 14, 30))).permute(2, 0, 1) for _ in range(2))
    a, b = (view.double().contiguous() for view in (x, ref))
    assert psnr(x, ref, data_range=99.0) == psnr(a, b, data_range=99.0)
    found, expected = (ssim_tensor(*pair, data_range=99.0, kind="gaussian", dims=2) for pair in ((x, ref), (a, b)))
    np.testing.assert_array_equal(found, expected)


def test_a_perfect_image_has_infinite_psnr_and_no_error():
    _, ref = pair((12, 12))
    assert psnr(ref, ref, data_range=1.0) == math.inf
    assert nmse(ref, ref) == 0


def test_float32_keeps_small_errors():
    ref = np.full((200, 200), 1000, np.float32)
    assert psnr(ref + np.float32(0.5), ref, data_range=1000.0) == pytest.approx(20 * math.log10(2000), abs=1e-9)


@pytest.mark.parametrize("data_range", [0.0, -1.0, math.nan, math.inf])
def test_a_data_range_that_is_none_is_refused(data_range):
    x, ref = pair((12, 12))
    with pytest.raises(ValueError, match="data range"):
        psnr(x, ref, data_range=data_range)
    with pytest.raises(ValueError, match="data range"):
        ssim_map(x, ref, data_range=data_range, kind="uniform", dims=2)


def test_shapes_and_masks_that_do_not_fit_are_refused():
    x, ref = pair((12, 12))
    with pytest.raises(ValueError, match="shape"):
        psnr(x[:1], ref, data_range=1.0)
    with pytest.raises(ValueError, match="shapes"):
        ssim_map(x[:1], ref, data_range=1.0, kind="uniform", dims=2)
    with pytest.raises(ValueError, match="11 taps"):
        ssim_map(x[:10], ref[:10], data_range=1.0, kind="gaussian", dims=2)
    for mask in (np.zeros(x.shape, bool), np.ones(x.shape, np.uint8), np.ones((1, 12), bool)):
        with pytest.raises(ValueError, match="bool mask"):
            psnr(x, ref, data_range=1.0, mask=mask)
    with pytest.raises(ValueError, match="zero everywhere"):
        nmse(x, np.zeros_like(ref))
