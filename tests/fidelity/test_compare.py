"""Extractors by name, and the one call for a table."""

import warnings

import pytest
import torch
from torch import nn

from medwvae.errors import InputError
from medwvae.fidelity import OrthogonalSlices, ScatteringFeatures, TorchScriptFeatures, compare, extract, features_named
from tests.fidelity.cases import blobs, noise


def script(path, module, shape):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.trace(module, torch.zeros(shape)).save(path)
    return path


def test_a_torchscript_network_of_the_users(tmp_path):
    path = script(tmp_path / "net.pt", nn.Conv2d(3, 5, 3).eval(), (1, 3, 9, 9))
    x = blobs(4, 9)
    for features in (TorchScriptFeatures(path), features_named("inception", path), features_named("radimagenet", path)):
        found = extract(features, x, batch=3)
        assert found.shape == (4, 5)
        assert found.dtype == torch.float64
        assert features.name == "TorchScript net"
    half = TorchScriptFeatures(path, prepare=lambda x: 0.5 * x)
    assert not torch.allclose(extract(half, x), found)


def test_files_that_are_absent_or_no_network_are_refused_without_their_folder(tmp_path):
    with pytest.raises(InputError, match=r"inception\.pt") as caught:
        TorchScriptFeatures(tmp_path / "inception.pt")
    assert str(tmp_path) not in str(caught.value)
    (tmp_path / "other.pt").write_bytes(b"nothing")
    with pytest.raises(InputError, match="TorchScript"):
        TorchScriptFeatures(tmp_path / "other.pt")
    with pytest.raises(InputError, match="need a TorchScript file"):
        features_named("inception")
    with pytest.raises(InputError, match="no features named"):
        features_named("vgg")  # type: ignore[arg-type]


def test_features_do_not_depend_on_the_batch():
    features = ScatteringFeatures(2, 2, 1)
    x = blobs(7, 12)
    whole = extract(features, x)
    torch.testing.assert_close(extract(features, x, batch=2), whole)
    torch.testing.assert_close(extract(features, [x[:3], x[3:]]), whole)
    with pytest.raises(ValueError, match="no image"):
        extract(features, [])
    with pytest.raises(ValueError, match="not finite"):
        extract(features, x * float("nan"))


def test_volumes_are_seen_in_three_planes():
    features = features_named("scattering", dims=3)
    assert isinstance(features, OrthogonalSlices)
    x = noise(2, 1, 12, 14, 16)
    found, planar = features(x), ScatteringFeatures()
    torch.testing.assert_close(found.chunk(3, 1)[2], planar(x[:, :, 6]))
    torch.testing.assert_close(found.chunk(3, 1)[0], planar(x[..., 8]))
    with pytest.raises(ValueError, match="volumes"):
        features(x[0])


def test_worse_samples_have_worse_numbers():
    features = ScatteringFeatures(3, 4, 2)
    real, other = blobs(48), blobs(48, seed=1)
    good = compare(real, other, features, data_range=1.0, pairs=60)
    noisy = compare(real, other + 0.2 * noise(48, 1, 32, 32).float(), features, data_range=1.0, pairs=60)
    alike = compare(real, other[:2].repeat(24, 1, 1, 1), features, data_range=1.0, pairs=60)
    assert good == compare(real, other, features, data_range=1.0, pairs=60)
    assert noisy["frechet"] > 5 * good["frechet"]
    assert noisy["mmd"] > 5 * abs(good["mmd"])
    assert noisy["precision"] < 0.2 < good["precision"]
    assert noisy["energy_high"] > 10 > 2 > good["energy_high"] > 0.5
    assert alike["frechet"] > good["frechet"]
    assert alike["recall"] < 0.2 < good["recall"]
    assert alike["ms_ssim"] > good["ms_ssim"]
    assert good["ms_ssim_real"] == pytest.approx(good["ms_ssim"], abs=0.1)
    assert (good["real"], good["samples"], good["frechet_components"]) == (48, 48, 24)
    # Halves of half the size are biased more.
    assert good["frechet"] < 2 * good["frechet_real"]


def test_volumes_are_compared_too():
    x = torch.nn.functional.interpolate(noise(16, 1, 4, 4, 4), (12, 12, 12)).sigmoid().float()
    features = OrthogonalSlices(ScatteringFeatures(2, 2, 1))
    found = compare(x[:8], x[8:], features, data_range=1.0, dims=3, levels=1, components=3)
    assert found["frechet_components"] == 3
    assert found["energy_high"] == pytest.approx(1, abs=0.2)


def test_sets_that_do_not_fit_are_refused():
    features = ScatteringFeatures(2, 2, 1)
    with pytest.raises(ValueError, match="cannot compare"):
        compare(blobs(8), blobs(8, 16), features, data_range=1.0)
    with pytest.raises(ValueError, match="cannot compare"):
        compare(blobs(8), blobs(8), features, data_range=1.0, dims=3)
    with pytest.raises(ValueError, match="neighbours"):
        compare(blobs(8), blobs(3), features, data_range=1.0)
