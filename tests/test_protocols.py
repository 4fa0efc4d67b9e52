import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from medwvae.intensity import LinearScaling
from medwvae.metrics import DEFINITIONS, hfen, lesion_contrast, ms_ssim, nmse, psnr, ssim
from medwvae.names import METRICS, REGIONS, Region
from medwvae.protocols import PROTOCOLS, WINDOWS, score, windowed
from medwvae.scores import scores_of

RNG = np.random.default_rng(3)
TRUTH = (2.5 * RNG.random((12, 20, 24))).astype(np.float32)
RESTORED = (TRUTH + 0.2 * RNG.standard_normal(TRUTH.shape)).astype(np.float32)
HEAD = np.zeros(TRUTH.shape, bool)
HEAD[2:10, 4:15, 5:20] = True
OF_VOLUMES = sorted(name for name, protocol in PROTOCOLS.items() if protocol.averaging == "volume")


def table_of(name, x=RESTORED, ref=TRUTH, head=HEAD, **options):
    return {(s.region, s.metric): s.value for s in score(PROTOCOLS[name], x, ref, head, **options)}


def test_each_protocol_is_found_under_its_own_name():
    assert set(PROTOCOLS) == {
        *("ixi-td", "ixi-bd", "through-plane", "brainweb-rician", "brainweb-gaussian", "poisson"),
        *("fastmri", "calgary", "lodopab", "lodopab-fr", "ldct-chest", "ldct-abdomen", "ldct-neuro"),
        *("sparse-view", "inpainting"),
    }
    assert all(protocol.name == name for name, protocol in PROTOCOLS.items())


@pytest.mark.parametrize("name", OF_VOLUMES)
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


@pytest.mark.parametrize("name", ["ixi-td", "brainweb-rician", "fastmri", "calgary"])
def test_a_lesion_where_the_truth_is_zero_has_no_nmse_and_stops_nothing(name):
    lesion = np.zeros(TRUTH.shape, bool)
    lesion[4:6, 6:9, 7:10] = True
    dark = np.where(lesion, 0, TRUTH)
    found = scores_of(PROTOCOLS[name], RESTORED, dark, HEAD, metrics=METRICS, regions=REGIONS, lesion=lesion)
    metrics = {(score.region, score.metric) for score in found}
    assert ("lesion", "nmse") not in metrics and {("head", "nmse"), ("whole", "nmse")} <= metrics
    assert (("lesion", "psnr") in metrics) == (PROTOCOLS[name].averaging != "image")  # slices without a truth count not
    assert all(np.isfinite(score.value) for score in found)


# --- the published codes, written out ---------------------------------------------------------------------------------


def whole(name, **options):
    table = table_of(name, **options)
    return {metric: table["whole", metric] for metric in ("psnr", "ssim", "nmse")}


def test_fastmri_evaluate():
    # fastmri/evaluate.py: the volume's maximum; SSIM slice by slice with scikit-image's defaults.
    top = TRUTH.max()
    expected = {
        "nmse": np.linalg.norm(TRUTH - RESTORED) ** 2 / np.linalg.norm(TRUTH) ** 2,
        "psnr": peak_signal_noise_ratio(TRUTH, RESTORED, data_range=top),
        "ssim": np.mean([structural_similarity(t, x, data_range=top) for x, t in zip(RESTORED, TRUTH, strict=True)]),
    }
    assert whole("fastmri") == pytest.approx(expected, abs=1e-6, rel=1e-6)


def test_calgary_challenge():
    # MC-MRRec's evaluation: each slice over its true maximum; range: joint maximum less joint minimum.
    found: dict[str, list[float]] = {"psnr": [], "ssim": []}
    for x, t in zip(RESTORED.astype(float), TRUTH.astype(float), strict=True):
        x, t = x / t.max(), t / t.max()
        span = max(t.max(), x.max()) - min(t.min(), x.min())
        found["psnr"].append(peak_signal_noise_ratio(t, x, data_range=span))
        found["ssim"].append(structural_similarity(t, x, data_range=span))
    ours = whole("calgary")
    for metric, values in found.items():
        assert ours[metric] == pytest.approx(np.mean(values), abs=1e-6)


@pytest.mark.parametrize("name", ["lodopab", "lodopab-fr"])
def test_lodopab_challenge(name):
    # dival: range of the true image, or 1; 20 log10(range) − 10 log10(MSE).
    found: dict[str, list[float]] = {"psnr": [], "ssim": []}
    for x, t in zip(RESTORED.astype(float), TRUTH.astype(float), strict=True):
        span = t.max() - t.min() if name == "lodopab" else 1.0
        found["psnr"].append(20 * np.log10(span) - 10 * np.log10(np.mean((x - t) ** 2)))
        found["ssim"].append(structural_similarity(x, t, data_range=span))
    ours = whole(name)
    for metric, values in found.items():
        assert ours[metric] == pytest.approx(np.mean(values), abs=1e-6)


@pytest.mark.parametrize("name", sorted(WINDOWS))
def test_ldct_benchmark(name):
    # Window as DICOM defines it, then range 1, slice by slice.
    centre, width = WINDOWS[name]
    rng = np.random.default_rng(0)
    truth = rng.uniform(centre - 0.7 * width, centre + 0.7 * width, TRUTH.shape)
    restored = truth + 0.05 * width * rng.standard_normal(truth.shape)

    def shown(x):
        low, high = centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
        return np.where(x <= low, 0.0, np.where(x > high, 1.0, (x - (centre - 0.5)) / (width - 1) + 0.5))

    pairs = [(shown(x), shown(t)) for x, t in zip(restored, truth, strict=True)]
    expected = {
        "psnr": np.mean([peak_signal_noise_ratio(t, x, data_range=1) for x, t in pairs]),
        "ssim": np.mean([structural_similarity(t, x, data_range=1) for x, t in pairs]),
    }
    ours = whole(f"ldct-{name}", x=restored, ref=truth)
    assert {metric: ours[metric] for metric in expected} == pytest.approx(expected, abs=1e-6)
    # The same from network units.
    scaling = LinearScaling(-1000.0, 1500.0)
    network = [scaling.apply(volume) for volume in (restored, truth)]
    again = whole(f"ldct-{name}", x=network[0], ref=network[1], scaling=scaling)
    assert again["psnr"] == pytest.approx(ours["psnr"], abs=1e-2)


@pytest.mark.parametrize("name", ["ixi-bd", "ixi-td", "brainweb-rician"])
def test_formulas_of_wang_and_of_the_peak_over_the_volume(name):
    # SSIM of Wang et al. (IEEE TIP 13, 2004): Gaussian of 11 taps, σ = 1.5, and PSNR of the volume's maximum.
    x, t, top = RESTORED.astype(float), TRUTH.astype(float), float(TRUTH.max())
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()
    axes = (0, 1, 2) if name == "brainweb-rician" else (1, 2)

    def blurred(image):
        for axis in axes:
            image = ndimage.correlate1d(image, taps, axis, mode="reflect")
        return image

    mx, mt = blurred(x), blurred(t)
    vx, vt, vxt = blurred(x * x) - mx**2, blurred(t * t) - mt**2, blurred(x * t) - mx * mt
    c1, c2 = (0.01 * top) ** 2, (0.03 * top) ** 2
    similarity = (2 * mx * mt + c1) * (2 * vxt + c2) / ((mx**2 + mt**2 + c1) * (vx + vt + c2))
    table = table_of(name)
    assert table["whole", "ssim"] == pytest.approx(similarity.mean(), abs=1e-6)
    assert table["head", "ssim"] == pytest.approx(similarity[HEAD].mean(), abs=1e-6)
    assert table["head", "psnr"] == pytest.approx(
        20 * np.log10(top) - 10 * np.log10(np.mean((x - t)[HEAD] ** 2)), abs=1e-6
    )


@given(centre=st.floats(-800, 800), width=st.floats(2, 3000), hu=st.floats(-1100, 3000))
def test_a_window_shows_zero_to_one_and_its_middle_half(centre, width, hu):
    shown = windowed(np.array([hu, centre - 0.5, -1e5, 1e5]), centre, width)
    np.testing.assert_allclose(shown[1:], [0.5, 0, 1], atol=1e-9)
    assert 0 <= shown[0] <= 1
    with pytest.raises(ValueError, match="wider"):
        windowed(shown, centre, 1.0)


# --- all metrics -----------------------------------------------------------------------------------------------------


LESION = np.zeros(TRUTH.shape, bool)
LESION[4:6, 7:11, 8:13] = True  # in two slices only


@pytest.mark.parametrize("name", sorted(PROTOCOLS))
def test_every_protocol_scores_every_metric_in_every_region(name):
    protocol = PROTOCOLS[name]
    # Within the window where there is one: nothing is clipped to a constant.
    centre, width = protocol.window or (1.0, 2.0)
    scaling = LinearScaling(centre - 0.4 * width, width / 4)
    found = scores_of(protocol, RESTORED, TRUTH, HEAD, metrics=METRICS, regions=REGIONS, lesion=LESION, scaling=scaling)
    table = {(s.region, s.metric): s.value for s in found}
    assert len(table) == len(found) and set(DEFINITIONS) >= {s.metric for s in found}
    wanted = {"psnr", "ssim", "nmse", "ms_ssim", "gradient_error", "hfen", "edge_sharpness", "subband_dd1"}
    for region in REGIONS:
        assert {metric for of, metric in table if of == region} >= wanted
    assert all(np.isfinite(value) for value in table.values())
    # The metrics see what the protocol's three see.
    x, ref = (protocol.seen(volume, scaling) for volume in (RESTORED, TRUTH))
    assert table["head", "hfen"] == hfen(x, ref, dims=2, mask=HEAD)
    assert table["lesion", "lesion_contrast"] == lesion_contrast(x, ref, lesion=LESION, head=HEAD)
    ranges = (
        [protocol.range_of(ref[k], x[k]) for k in range(len(ref))]
        if protocol.averaging == "image"
        else [protocol.range_of(ref, x)] * len(ref)
    )
    slices = [ms_ssim(a, b, data_range=r, dims=2) for a, b, r in zip(x, ref, ranges, strict=True)]
    assert table["whole", "ms_ssim"] == pytest.approx(np.mean(slices), rel=1e-5)
    if protocol.averaging == "image":  # slices without the lesion do not count in it
        of_lesion = [
            psnr(x[k], ref[k], data_range=ranges[k], mask=LESION[k]) for k in range(len(ref)) if LESION[k].any()
        ]
        assert table["lesion", "psnr"] == pytest.approx(np.mean(of_lesion))
    else:
        assert table["lesion", "psnr"] == psnr(x, ref, data_range=ranges[0], mask=LESION)


# --- laws ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(set(PROTOCOLS) - {"calgary"}))
def test_the_range_comes_from_the_truth_alone(name):
    brighter = RESTORED.copy()
    brighter[0, 0, 0] = 100  # outside the head
    before, after = table_of(name), table_of(name, x=brighter)
    assert after["head", "psnr"] == before["head", "psnr"]
    if not name.startswith("ldct"):
        assert after["whole", "psnr"] < before["whole", "psnr"]


def test_blank_slices_are_left_out_where_each_slice_is_scored():
    blank = np.zeros_like(TRUTH[:2])
    padded = [np.concatenate((blank, volume)) for volume in (RESTORED, TRUTH)]
    head = np.concatenate((blank > 0, HEAD))
    for name in ("calgary", "lodopab"):
        assert table_of(name, padded[0], padded[1], head) == pytest.approx(table_of(name))
    with pytest.raises(ValueError, match="blank"):
        table_of("lodopab", blank, blank, blank > 0)


def test_a_joint_range_needs_both_images():
    with pytest.raises(ValueError, match="both images"):
        PROTOCOLS["calgary"].range_of(TRUTH)


def test_only_denoising_is_scored_in_three_dimensions():
    three = {name for name, protocol in PROTOCOLS.items() if protocol.ssim_dims == 3}
    assert three == {"brainweb-rician", "brainweb-gaussian", "poisson"}


def test_a_protocol_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(PROTOCOLS["ixi-td"], "ssim_dims", 3)  # noqa: B010
