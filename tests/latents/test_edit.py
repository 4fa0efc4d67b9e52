import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medwvae.latents.edit import edit, edited
from medwvae.latents.places import reach
from medwvae.wavelets import MODES, dwt, idwt

wavelets = st.sampled_from(("haar", "db2", "db4", "bior4.4"))
modes = st.sampled_from(MODES)


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(1, 1, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def far_within(mask, voxels):
    """Voxels whose distance (along the axis where it is largest) to the other side is more than `voxels`."""
    if mask.all():
        return torch.ones_like(mask)
    return torch.from_numpy(ndimage.distance_transform_cdt(mask.numpy(), "chessboard") > voxels)


@st.composite
def scenes(draw):
    """An image shape, a mask of boxes that leaves a deep inside and a deep outside, and the rest of a transform."""
    dims = draw(st.sampled_from((2, 2, 3)))
    shape = tuple(draw(st.integers(3, 20 if dims == 3 else 48)) for _ in range(dims))
    mask = torch.zeros(shape, dtype=torch.bool)
    for _ in range(draw(st.integers(1, 2))):
        spans = []
        for n in shape:
            start = draw(st.integers(0, n - 1))
            spans.append(slice(start, draw(st.integers(start + 1, n)) if draw(st.booleans()) else n))
        mask[tuple(spans)] = True
    return shape, mask, draw(wavelets), draw(modes), draw(st.integers(1, 3)), draw(st.integers(0, 99))


@settings(max_examples=80, deadline=None)
@given(scenes(), st.booleans())
def test_beyond_the_reach_of_the_finest_level_nothing_inside_the_mask_changes(scene, single):
    shape, mask, wavelet, mode, levels, seed = scene
    image = noise(*shape, seed=seed, dtype=torch.float32 if single else torch.float64)
    answer = edit(image, {"level1": 0}, mask, levels=levels, spatial_dims=len(shape), wavelet=wavelet, mode=mode)
    kept = far_within(mask, reach(wavelet, 1))
    assert answer.dtype == image.dtype
    assert torch.equal(answer[0, 0][kept], image[0, 0][kept])


@settings(max_examples=80, deadline=None)
@given(scenes(), st.integers(1, 3), st.booleans())
def test_the_same_holds_for_every_level_and_for_the_outside(scene, level, swap):
    shape, mask, wavelet, mode, levels, seed = scene
    level = min(level, levels)
    image = noise(*shape, seed=seed)
    gains = {f"level{level}": 0.3, f"{'a' * (len(shape) - 1)}d{level}": -2.0}
    options = {"levels": levels, "spatial_dims": len(shape), "wavelet": wavelet, "mode": mode}
    if swap:
        answer, kept = edit(image, {}, mask, inside=gains, **options), far_within(~mask, reach(wavelet, level))
    else:
        answer, kept = edit(image, gains, mask, **options), far_within(mask, reach(wavelet, level))
    assert torch.equal(answer[0, 0][kept], image[0, 0][kept])


@settings(max_examples=40, deadline=None)
@given(scenes(), st.sampled_from(["details", "level1", "approximation"]))
def test_a_protected_mask_keeps_every_bit(scene, what):
    shape, mask, wavelet, mode, levels, seed = scene
    image = noise(*shape, seed=seed)
    options = {"levels": levels, "spatial_dims": len(shape), "wavelet": wavelet, "mode": mode}
    answer = edit(image, {what: 0}, mask, protect=True, **options)
    assert torch.equal(answer[0, 0][mask], image[0, 0][mask])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("wavelet", ["haar", "db4", "bior4.4"])
def test_outside_the_mask_the_finest_level_goes(wavelet, mode):
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[20:40, 20:40] = True
    image = noise(64, 64)
    answer = edit(image, {"level1": 0}, mask, levels=2, wavelet=wavelet, mode=mode)
    everywhere = edit(image, {"level1": 0}, levels=2, wavelet=wavelet, mode=mode)
    far = far_within(~mask, reach(wavelet, 1))
    far[:16] = far[-16:] = far[:, :16] = far[:, -16:] = False  # borders may belong to neither side
    assert far.any()
    torch.testing.assert_close(answer[0, 0][far], everywhere[0, 0][far])
    assert (answer != image).double().mean() > 0.7
    assert far_within(mask, reach(wavelet, 1)).any()


def test_a_mask_at_the_border_is_safe_from_what_wraps_around():
    image, mask = noise(64, 64), torch.zeros(64, 64, dtype=torch.bool)
    mask[:, :20] = True
    answer = edit(image, {"details": 0}, mask, levels=1, wavelet="db4", mode="periodization")
    assert torch.equal(answer[..., : 20 - reach("db4", 1)], image[..., : 20 - reach("db4", 1)])
    assert not torch.equal(answer[..., 30:], image[..., 30:])


@settings(max_examples=20, deadline=None)
@given(scenes())
def test_gains_of_one_change_no_bit(scene):
    shape, mask, wavelet, mode, levels, seed = scene
    image, dims = noise(*shape, seed=seed), len(shape)
    options = {"levels": levels, "spatial_dims": dims, "wavelet": wavelet, "mode": mode}
    assert torch.equal(edit(image, {"details": 1.0}, mask, inside={"level1": 1}, **options), image)
    assert torch.equal(edit(image, {}, **options), image)


@settings(max_examples=20, deadline=None)
@given(wavelets, modes, st.integers(0, 99))
def test_without_a_mask_it_is_the_inverse_of_the_scaled_coefficients(wavelet, mode, seed):
    image = noise(21, 16, seed=seed)
    gains = {"details": 0.5, "level2": 2.0, "ad2": -1.0, "approximation": 0.9}
    coefficients = dwt(image, 2, 2, wavelet, mode)
    scaled = edited(coefficients, gains)
    bands, old = scaled.subbands(), coefficients.subbands()
    for name, factor in {"aa2": 0.9, "ad2": -1.0, "da2": 2.0, "dd2": 2.0, "ad1": 0.5, "dd1": 0.5}.items():
        torch.testing.assert_close(bands[name], factor * old[name])
    torch.testing.assert_close(edit(image, gains, levels=2, wavelet=wavelet, mode=mode), idwt(scaled))


def test_the_latent_of_a_model_is_edited_like_an_image():
    image, mask = noise(32, 32), torch.zeros(32, 32, dtype=torch.bool)
    mask[8:24, 8:24] = True
    coefficients = dwt(image, 2)
    torch.testing.assert_close(
        idwt(edited(coefficients, {"level1": 0}, mask)), edit(image, {"level1": 0}, mask, levels=2, wavelet="haar")
    )


def test_each_image_of_a_batch_has_its_own_mask():
    image = torch.cat([noise(24, 24, seed=k) for k in range(2)])
    masks = torch.zeros(2, 1, 24, 24, dtype=torch.bool)
    masks[0, :, :12] = True
    together = edit(image, {"level1": 0}, masks, levels=2)
    for k in range(2):
        torch.testing.assert_close(together[[k]], edit(image[[k]], {"level1": 0}, masks[k, 0], levels=2))


@pytest.mark.parametrize(
    ("gains", "options", "words"),
    [
        ({"level3": 0}, {}, "'level3'; have: details, approximation, level1, level2, aa2, ad2"),
        ({"details": float("nan")}, {}, "finite"),
        ({"details": 0}, {"inside": {"level1": 0}}, "need a mask"),
        ({"details": 0}, {"protect": True}, "need a mask"),
        ({"details": 0}, {"mask": torch.ones(16, 16)}, "bool"),
        ({"details": 0}, {"mask": torch.ones(16, 15, dtype=torch.bool)}, r"\(16, 16\)"),
    ],
)
def test_what_cannot_be_edited_is_refused(gains, options, words):
    with pytest.raises(ValueError, match=words):
        edit(noise(16, 16), gains, levels=2, **options)


def test_far_within_is_what_it_says():
    mask = torch.zeros(9, dtype=torch.bool)
    mask[2:7] = True
    assert np.flatnonzero(far_within(mask, 1)).tolist() == [3, 4, 5]
