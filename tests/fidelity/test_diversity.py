import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from medwvae.fidelity.diversity import WEIGHTS, diversity, ms_ssim, scales_for
from tests.fidelity.cases import blobs, noise


@settings(max_examples=12, deadline=None)
@given(
    size=st.integers(11, 50),
    dims=st.sampled_from([2, 3]),
    channels=st.integers(1, 2),
    seed=st.integers(0, 2**16),
)
def test_it_is_one_for_equal_images_symmetric_and_between_zero_and_one(size, dims, channels, seed):
    shape = (size,) * 2 if dims == 2 else (min(size, 14),) * 3
    x, y = (noise(2, channels, *shape, seed=seed + k).sigmoid().float() for k in (0, 1))
    torch.testing.assert_close(ms_ssim(x, x, data_range=1.0, dims=dims), torch.ones(2))
    forth, back = ms_ssim(x, y, data_range=1.0, dims=dims), ms_ssim(y, x, data_range=1.0, dims=dims)
    torch.testing.assert_close(forth, back)
    assert 0 <= float(forth.min()) <= float(forth.max()) < 1


def test_with_one_scale_it_is_scikit_images_ssim_of_the_interior():
    x, y = blobs(2, 20)
    expected = structural_similarity(
        x[0].double().numpy(), y[0].double().numpy(), data_range=1.0, gaussian_weights=True, use_sample_covariance=False
    )
    assert float(ms_ssim(x[None], y[None], data_range=1.0)) == pytest.approx(max(0, expected), abs=1e-4)


@given(size=st.integers(11, 400), dims=st.sampled_from([2, 3]))
def test_number_of_scales(size, dims):
    scales = scales_for((size, 500, 500)[:dims])
    assert scales == 1 + sum(size >= least for least in (22, 44, 99, 176))
    if size < 100 and dims == 2:
        x = torch.rand(1, 1, size, 110)
        assert ms_ssim(x, x, data_range=1.0).shape == (1,)


def test_five_scales_are_the_papers():
    from monai.metrics import MultiScaleSSIMMetric

    x, y = blobs(2, 176)
    metric = MultiScaleSSIMMetric(2, weights=WEIGHTS)
    assert float(ms_ssim(x[None], y[None], data_range=1.0)) == pytest.approx(float(metric(x[None], y[None])), abs=1e-4)


def test_copies_have_none_and_all_pairs_are_used_when_few():
    x = blobs(6)
    alike, different = diversity(x[:1].expand(6, -1, -1, -1), data_range=1.0), diversity(x, data_range=1.0)
    assert (alike.mean, alike.deviation) == pytest.approx((1, 0), abs=1e-6)
    assert different.mean < 0.8
    assert (different.pairs, different.scales) == (15, 2)
    pairs = [ms_ssim(x[i : i + 1], x[j : j + 1], data_range=1.0).item() for i in range(6) for j in range(i)]
    assert different.mean == pytest.approx(sum(pairs) / 15, abs=1e-6)


def test_random_pairs_are_different_images_and_depend_on_the_seed_alone():
    x = blobs(40, 16)
    first, again, other = (diversity(x, data_range=1.0, pairs=20, seed=s) for s in (0, 0, 1))
    assert first == again
    assert first.mean != other.mean
    assert first.pairs == 20
    assert diversity(x, data_range=1.0, pairs=780).mean == pytest.approx(first.mean, abs=0.15)


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="11 voxels"):
        diversity(blobs(3, 10), data_range=1.0)
    with pytest.raises(ValueError, match="two images"):
        diversity(blobs(1), data_range=1.0)
    with pytest.raises(ValueError, match="data range"):
        ms_ssim(blobs(2), blobs(2), data_range=0.0)
    with pytest.raises(ValueError, match="3D"):
        ms_ssim(blobs(2), blobs(2), data_range=1.0, dims=3)
