"""CT numbers, their noise, and lesions."""

import numpy as np
import pytest

from medwvae.metrics import hu_bias, hu_noise, lesion_contrast, noise_power
from medwvae.metrics.ct import tissue_masks


def skull(shape=(4, 64, 64)):
    """Return a cylinder of soft tissue (40 HU) in bone (800 HU) in air, and the head."""
    rows, columns = np.ogrid[: shape[1], : shape[2]]
    radius = np.hypot(rows - shape[1] / 2, columns - shape[2] / 2)
    image = np.full(shape, -1000.0)
    image[:, radius < 30] = 800
    image[:, radius < 26] = 40
    return image, np.broadcast_to(radius < 30, shape).copy()


def test_bias_and_noise_are_those_that_were_added():
    ref, head = skull()
    masks = tissue_masks(ref, head)
    assert set(masks) == {"soft", "bone"} and not (masks["soft"] & masks["bone"]).any()
    x = ref + 7 + np.random.default_rng(0).normal(0, 12, ref.shape)
    for mask in masks.values():
        assert hu_bias(x, ref, mask=mask) == pytest.approx((x - ref)[mask].mean())
        assert hu_bias(x, ref, mask=mask) == pytest.approx(7, abs=1.5)
        assert hu_noise(x, ref, mask=mask) == pytest.approx(12, rel=0.1)
        assert hu_noise(ref + 7, ref, mask=mask) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match="shape"):
        hu_bias(x[:1], ref, mask=masks["soft"])


def test_white_noise_has_a_flat_spectrum_whose_integral_is_the_variance():
    ref, head = skull((60, 64, 64))
    x = ref + np.random.default_rng(1).normal(0, 10, ref.shape)
    found = noise_power(x, ref, mask=tissue_masks(ref, head)["soft"], spacing=(0.5, 0.5))
    assert found is not None and found.patches > 100
    # The mean of each patch is taken out: 1/256 of the variance.
    assert found.variance == pytest.approx(100 * (1 - 1 / 256), rel=0.03)
    middle = found.power[1:8]
    assert middle == pytest.approx(np.full(middle.size, 100 * 0.25), rel=0.15)
    # Parseval: the integral of the two-dimensional spectrum is the variance, whatever the spacing.
    other = noise_power(x, ref, mask=tissue_masks(ref, head)["soft"], spacing=(1.0, 2.0))
    assert other is not None and other.variance == pytest.approx(found.variance)


def test_smoothed_noise_has_lower_frequencies():
    from scipy import ndimage

    ref, head = skull((8, 64, 64))
    noise = np.random.default_rng(2).normal(0, 10, ref.shape)
    mask = tissue_masks(ref, head)["soft"]
    found = [
        noise_power(ref + n, ref, mask=mask, spacing=(0.5, 0.5))
        for n in (noise, ndimage.gaussian_filter(noise, (0, 1.2, 1.2)))
    ]
    assert found[0] is not None and found[1] is not None
    assert found[1].mean_frequency < 0.6 * found[0].mean_frequency
    assert noise_power(ref, ref, mask=head & (ref > 300), spacing=(0.5, 0.5)) is None  # no patch fits into bone


def test_contrast_of_a_lesion():
    rng = np.random.default_rng(0)
    ref = np.full((5, 30, 30), 100.0) + rng.normal(0, 0.1, (5, 30, 30))
    lesion = np.zeros(ref.shape, bool)
    lesion[2, 12:17, 12:17] = True
    ref[lesion] += 50
    head = np.ones(ref.shape, bool)
    assert lesion_contrast(ref, ref, lesion=lesion, head=head) == pytest.approx(1)
    halved = ref - 25 * lesion
    assert lesion_contrast(halved, ref, lesion=lesion, head=head) == pytest.approx(0.5, abs=0.01)
    assert lesion_contrast(3 * ref + 9, ref, lesion=lesion, head=head) == pytest.approx(3)
    assert lesion_contrast(np.full_like(ref, 100.0), ref, lesion=lesion, head=head) == pytest.approx(0)
    assert lesion_contrast(ref, ref, lesion=lesion, head=lesion) is None  # nothing around it
    with pytest.raises(ValueError, match="bool mask"):
        lesion_contrast(ref, ref, lesion=np.zeros_like(lesion), head=head)
