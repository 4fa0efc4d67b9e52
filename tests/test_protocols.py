import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from medwvae.metrics import nmse, psnr, ssim
from medwvae.names import Region
from medwvae.protocols import PROTOCOLS, score

RNG = np.random.default_rng(3)
TRUTH = (2.5 * RNG.random((12, 20, 24))).astype(np.float32)
RESTORED = (TRUTH + 0.2 * RNG.standard_normal(TRUTH.shape)).astype(np.float32)
HEAD = np.zeros(TRUTH.shape, bool)
HEAD[2:10, 4:15, 5:20] = True


def test_each_protocol_is_found_under_its_own_name():
    assert set(PROTOCOLS) == {"ixi-td", "brainweb-rician", "fastmri"}
    assert all(protocol.name == name for name, protocol in PROTOCOLS.items())


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_scores_are_the_metrics_under_the_protocol(name):
    protocol = PROTOCOLS[name]
    table = {(s.region, s.metric): (s.value, s.unit) for s in score(protocol, RESTORED, TRUTH, HEAD)}
    assert set(table) == {(region, metric) for region in ("head", "whole") for metric in ("psnr", "ssim", "nmse")}
    data_range = float(TRUTH.max())
    regions: tuple[tuple[Region, NDArray[np.bool_] | None], ...] = (("head", HEAD), ("whole", None))
    for region, mask in regions:
        value, unit = table[region, "psnr"]
        assert (value, unit) == (psnr(RESTORED, TRUTH, data_range=data_range, mask=mask), "dB")
        assert table[region, "nmse"] == (nmse(RESTORED, TRUTH, mask=mask), "")
        kind, dims = protocol.ssim_kind, protocol.ssim_dims
        expected = ssim(RESTORED, TRUTH, data_range=data_range, kind=kind, dims=dims, mask=mask)
        assert table[region, "ssim"][0] == pytest.approx(expected, rel=1e-12)


def test_fastmri_ssim_is_the_mean_of_the_slices_maps_with_the_volumes_range():
    options = {"data_range": float(TRUTH.max()), "full": True}
    slices = [structural_similarity(x, t, **options)[1].mean() for x, t in zip(RESTORED, TRUTH, strict=True)]
    table = {(s.region, s.metric): s.value for s in score(PROTOCOLS["fastmri"], RESTORED, TRUTH, HEAD)}
    assert table["whole", "ssim"] == pytest.approx(np.mean(slices), abs=1e-5)


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_the_range_comes_from_the_truth_alone(name):
    brighter = RESTORED.copy()
    brighter[0, 0, 0] = 100  # outside the head
    protocol = PROTOCOLS[name]
    before, after = (
        {(s.region, s.metric): s.value for s in score(protocol, x, TRUTH, HEAD)} for x in (RESTORED, brighter)
    )
    assert after["head", "psnr"] == before["head", "psnr"]
    assert after["whole", "psnr"] < before["whole", "psnr"]


def test_only_the_listed_protocol_is_three_dimensional():
    assert [name for name, protocol in PROTOCOLS.items() if protocol.ssim_dims == 3] == ["brainweb-rician"]


def test_a_protocol_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(PROTOCOLS["ixi-td"], "ssim_dims", 3)  # noqa: B010
