import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medwvae.fidelity.spectrum import energy_kept, energy_ratio
from medwvae.wavelets import dwt, idwt
from tests.fidelity.cases import blobs, noise

shapes = st.one_of(st.tuples(*[st.integers(2, 24)] * 2), st.tuples(*[st.integers(2, 10)] * 3))


@settings(max_examples=25, deadline=None)
@given(shape=shapes, gain=st.floats(0.1, 3), seed=st.integers(0, 2**16))
def test_kept_correlation_and_error_belong_together(shape, gain, seed):
    x, y = noise(2, 1, *shape, seed=seed), noise(2, 1, *shape, seed=seed + 1)
    options: Any = {"dims": len(shape), "levels": 2}
    for band in energy_kept(x + gain * y, x, **options).values():
        assert band.error == pytest.approx(1 + band.kept - 2 * band.correlation * math.sqrt(band.kept), abs=1e-9)
        assert -1 <= band.correlation <= 1
    for band in energy_kept(gain * x, x, **options).values():
        expected = (gain**2, 1, (1 - gain) ** 2)
        assert (band.kept, band.correlation, band.error) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("dims", [2, 3])
def test_with_an_orthonormal_transform_errors_add_up_to_the_mean_squared_error(dims):
    shape = (16,) * dims
    x, y = noise(3, 1, *shape), noise(3, 1, *shape, seed=1)
    options = {"dims": dims, "levels": 2, "wavelet": "db2", "mode": "periodization"}
    energy = {name: float(b.square().sum()) for name, b in dwt(x, 2, dims, "db2", "periodization").subbands().items()}
    found = energy_kept(y, x, **options)
    total = sum(found[name].error * value for name, value in energy.items())
    assert total == pytest.approx(float((x - y).square().sum()))
    assert set(found) == {*energy, "high"}


def test_lost_detail_is_lost_in_its_own_subbands_and_high_is_their_sum():
    x = noise(2, 1, 32, 32)
    c = dwt(x, 3, 2, "db4", "periodization")
    estimate = idwt(c.map(lambda name, level, band: band * 0 if level == 1 else band))
    found = energy_kept(estimate, x, levels=3, mode="periodization")
    assert found["high"].kept == pytest.approx(0, abs=1e-12)
    assert found["high"].error == pytest.approx(1)
    assert found["dd2"].error == pytest.approx(0, abs=1e-12)
    two = energy_kept(estimate, x, levels=3, finest=2, mode="periodization")["high"]
    parts = {n: float(b.square().sum()) for n, b in c.subbands().items()}
    fine = sum(v for n, v in parts.items() if n.endswith("2"))
    assert two.kept == pytest.approx(fine / (fine + sum(v for n, v in parts.items() if n.endswith("1"))))


def test_noise_has_energy_but_is_no_detail():
    x = blobs(4, 64).double() + 0.1 * noise(4, 1, 64, 64)
    blurred = torch.from_numpy(ndimage.gaussian_filter(x.numpy(), (0, 0, 2, 2)))
    noisy = blurred + 0.1 * noise(4, 1, 64, 64, seed=9)
    smooth, rough = energy_kept(blurred, x)["high"], energy_kept(noisy, x)["high"]
    assert smooth.kept < 0.1
    assert rough.kept == pytest.approx(1, abs=0.15)
    assert abs(rough.correlation) < 0.1
    assert rough.error > 1.5 > smooth.error
    assert energy_ratio(noisy, x)["high"] == pytest.approx(rough.kept)


def test_unpaired_sets_may_differ_in_number():
    x = noise(5, 1, 16, 16)
    doubled = torch.cat([2 * x, 2 * x])
    assert all(value == pytest.approx(4) for value in energy_ratio(doubled, x, levels=2).values())


def test_empty_bands_have_no_ratio_and_misfits_are_refused():
    x = torch.zeros(1, 1, 8, 8)
    assert math.isnan(energy_kept(x + 1, x, levels=1)["dd1"].kept)
    assert math.isnan(energy_ratio(x + 1, x, levels=1)["dd1"])
    assert energy_kept(x, noise(1, 1, 8, 8), levels=1)["high"].correlation == 0
    with pytest.raises(ValueError, match="shape"):
        energy_kept(x, x[..., :4])
    with pytest.raises(ValueError, match="cannot compare"):
        energy_ratio(x[:0], x)
    with pytest.raises(ValueError, match="finest"):
        energy_kept(x, x, levels=2, finest=3)
