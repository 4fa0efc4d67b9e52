"""Edge and detail metrics against SciPy and NumPy, and their laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medwvae.metrics import edge_sharpness, gradient_error, hfen, subband_errors
from medwvae.metrics.voxels import UndefinedError


def pair(shape=(3, 21, 26), seed=0, noise=0.1):
    rng = np.random.default_rng(seed)
    ref = ndimage.gaussian_filter(rng.random(shape), 1.0)
    return ref + noise * rng.standard_normal(shape), ref


def magnitude(image, axes):
    return np.sqrt(sum(g**2 for g in np.gradient(image, axis=axes)))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradient_error_is_numpys(dims, dtype):
    x, ref = (f.astype(dtype) for f in pair())
    axes = tuple(range(-dims, 0))
    theirs, own = (magnitude(f.astype(float), axes) for f in (x, ref))
    assert gradient_error(x, ref, dims=dims) == pytest.approx(((theirs - own) ** 2).sum() / (own**2).sum(), rel=1e-9)


def test_hfen_is_scipys_laplacian_of_gaussian():
    x, ref = pair((4, 18, 23))
    theirs, own = (np.stack([ndimage.gaussian_laplace(s, 1.5, mode="reflect", radius=7) for s in f]) for f in (x, ref))
    expected = np.linalg.norm(theirs - own) / np.linalg.norm(own)
    assert hfen(x, ref, dims=2) == pytest.approx(expected, rel=1e-9)
    solid = [ndimage.gaussian_laplace(f, 1.5, mode="reflect", radius=7) for f in pair((15, 18, 17))]
    x, ref = pair((15, 18, 17))
    expected = np.linalg.norm(solid[0] - solid[1]) / np.linalg.norm(solid[1])
    assert hfen(x, ref, dims=3) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**16), st.floats(1e-3, 1e3), st.data())
def test_a_mask_selects_and_the_unit_does_not_matter(seed, scale, data):
    x, ref = pair((4, 12, 13), seed)
    box = tuple(slice(start, data.draw(st.integers(start + 2, size))) for start, size in ((1, 4), (2, 12), (5, 13)))
    mask = np.zeros(x.shape, bool)
    mask[box] = True
    full = [magnitude(f, (-2, -1))[box] for f in (x, ref)]
    expected = ((full[0] - full[1]) ** 2).sum() / (full[1] ** 2).sum()
    assert gradient_error(x, ref, dims=2, mask=mask) == pytest.approx(expected)  # masked is the cropped map
    for metric in (gradient_error, hfen, edge_sharpness):
        assert metric(scale * x, scale * ref, dims=2, mask=mask) == pytest.approx(metric(x, ref, dims=2, mask=mask))
        everywhere = metric(x, ref, dims=2, mask=np.ones(x.shape, bool))
        assert everywhere == pytest.approx(metric(x, ref, dims=2))


def test_sharpness_sees_blur_and_exaggeration_but_not_noise():
    _, ref = pair((3, 64, 64))
    blurred = ndimage.gaussian_filter(ref, (0, 1.0, 1.0))
    assert edge_sharpness(ref, ref, dims=2) == pytest.approx(1)
    assert edge_sharpness(blurred, ref, dims=2) < 0.8
    assert edge_sharpness(2 * ref - blurred, ref, dims=2) > 1.2
    noisy = ref + 0.05 * np.random.default_rng(3).standard_normal(ref.shape)
    assert edge_sharpness(noisy, ref, dims=2) == pytest.approx(1, abs=0.05)
    assert magnitude(noisy, (-2, -1)).mean() > 1.2 * magnitude(ref, (-2, -1)).mean()  # what others would call sharp
    assert hfen(ref, ref, dims=2) == gradient_error(ref, ref, dims=2) == 0


def test_a_flat_truth_has_no_edges_and_wrong_shapes_are_refused():
    x, ref = pair((2, 12, 12))
    for metric in (gradient_error, hfen, edge_sharpness):
        with pytest.raises(UndefinedError):
            metric(x, np.zeros_like(ref), dims=2)
        with pytest.raises(ValueError, match="shape"):
            metric(x[:1], ref, dims=2)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**16), st.sampled_from([(2, 16, 24), (3, 17, 21)]), st.sampled_from([2, 3]))
def test_subband_errors_are_those_of_the_wavelet_transform(seed, shape, dims):
    import torch

    from medwvae.fidelity.spectrum import energy_kept

    x, ref = pair((8, *shape[1:]) if dims == 3 else shape, seed)
    found = subband_errors(x, ref, dims=dims)
    images = [torch.from_numpy(f).reshape(-1, 1, *f.shape[-dims:]) for f in (x, ref)]
    theirs = energy_kept(images[0], images[1], dims=dims, wavelet="haar", mode="periodization")
    assert len(found) == 1 + 3 * (2**dims - 1)
    for name, error in found.items():
        assert error == pytest.approx(theirs[name].error, rel=1e-9)


def test_subbands_in_a_mask_are_those_of_the_crop_on_the_grid_of_blocks():
    x, ref = pair((2, 32, 40))
    mask = np.zeros(x.shape, bool)
    mask[:, 8:24, 16:40] = True
    cropped = subband_errors(x[:, 8:24, 16:40], ref[:, 8:24, 16:40], dims=2)
    assert subband_errors(x, ref, dims=2, mask=mask) == pytest.approx(cropped)
    flat = subband_errors(x, np.ones_like(ref), dims=2)
    assert list(flat) == ["aa3"]  # a flat truth has no detail to lose
