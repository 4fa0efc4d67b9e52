"""The volumes of the viewer: what is packed comes back, on one grid, within the bytes there are."""

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medwvae.report.volumes import VolumeView, pack, unpack, volume_view
from tests.cases import head_like

SHAPE = (20, 24, 18)


def write(path, volume, spacing=(1.0, 2.0, 3.0)):
    nib.save(nib.Nifti1Image(volume.astype(np.float32), np.diag([*spacing, 1.0])), path)
    return path


@pytest.fixture
def scan(tmp_path):
    """A head, two restorations of it, and a map of uncertainty."""
    truth = 1000 * head_like(SHAPE)[0]
    rng = np.random.default_rng(0)
    close, far = truth + rng.normal(0, 20, SHAPE), truth + rng.normal(0, 100, SHAPE)
    far[12, 9, 7] += 3000
    files = {name: write(tmp_path / f"{name}.nii.gz", v) for name, v in (("close", close), ("far", far))}
    return write(tmp_path / "truth.nii.gz", truth), files, truth


def packed(*given) -> VolumeView:
    view = volume_view(*given)
    assert view is not None
    return view


def shown(view, name):
    """Return a volume as the viewer has it, in the unit of the file."""
    grey = {key: unpack(text, view.shape) for key, text in view.images.items()}
    levels = grey["truth"] if name == "truth" else grey[name] + grey["truth"]
    return view.window[0] + levels * (view.window[1] - view.window[0]) / (view.levels - 1)


@given(arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3)))
def test_what_is_packed_comes_back(volume):
    text = pack(volume)
    assert text.isascii() and not set(text) & set("<>&\"'")
    np.testing.assert_array_equal(unpack(text, volume.shape), volume)


def test_every_method_is_the_file_to_half_a_grey_level(scan):
    truth, files, goal = scan
    view = packed(truth, files, {}, None, "far", 10**7)
    assert (view.factor, view.levels, view.spacing) == (1, 256, (1.0, 2.0, 3.0))
    box = tuple(slice(k.min(), k.max() + 1) for k in np.nonzero(goal > goal.mean()))
    where = tuple(slice(max(0, s.start - 2), s.stop + 2) for s in box)
    half = 0.51 * view.window[1] / 255
    for name, path in {"truth": truth, **files}.items():
        values = np.clip(nib.load(path).get_fdata(), *view.window)[where]
        assert values.shape == view.shape
        np.testing.assert_allclose(shown(view, name), values, atol=half)
    assert view.origin == tuple(s.start for s in where) and view.whole == SHAPE
    away = np.add(view.start, view.origin) - (12, 9, 7)
    assert np.abs(away).max() <= 2  # it begins where the reference errs most


@pytest.mark.parametrize("window", [None, (-160.0, 240.0)])
def test_less_room_costs_grey_levels_first_then_voxels_and_never_more_than_there_is(scan, window):
    truth, files, _ = scan
    sizes, steps = [], []
    for most in (10**7, 18_000, 15_000, 6_000, 1_500):
        view = packed(truth, files, {"far": files["far"]}, window, "far", most)
        assert window is None or view.window == window
        assert view.bytes <= most and all(0 <= k < n for k, n in zip(view.start, view.shape, strict=True))
        sizes.append(view.bytes)
        steps.append((view.factor, -view.levels))
    assert sizes == sorted(sizes, reverse=True) and steps == sorted(steps) and steps[-1][0] > 1
    assert volume_view(truth, files, {}, window, "far", 10) is None


def test_what_is_missing_or_off_grid_is_left_out(scan, tmp_path):
    truth, files, _ = scan
    odd = write(tmp_path / "odd.nii", np.ones((4, 4, 4)))
    view = packed(truth, files | {"odd": odd, "gone": tmp_path / "gone.nii"}, {"close": odd}, None, "odd", 10**7)
    assert list(view.images) == ["truth", "close", "far"] and not view.uncertainties
    assert volume_view(truth, {"odd": odd}, {}, None, "odd", 10**7) is None
    flat = write(tmp_path / "flat.nii", np.ones((8, 8, 1)))
    assert volume_view(flat, {"same": flat}, {}, None, "same", 10**7) is None
