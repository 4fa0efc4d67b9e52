"""Restoration networks over whole volumes: tiles, slices, volumes, mirrored copies, k-space."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from medwvae.degradation import Degradation, Denoise, Inpaint, Neighbourhoods, Recon, Superres
from medwvae.inference import lanes, memory, restorers, whole
from medwvae.inference.restorers import footprint_of, mirrored, restore_volume
from medwvae.nets.unet import UNet
from medwvae.nets.wavelet_vae import WaveletVAE
from medwvae.operators import magnitude
from medwvae.volumetric import as_volumes, to_slices, to_volume, volumetric
from tests.cases import case, encoder_of

DEGRADATIONS: dict[str, Degradation] = {
    "superres": Superres(2),
    "denoise": Denoise(0.1),
    "recon": Recon(3, 0.15, "random", 0.5),
    "inpaint": Inpaint(),
}


def network(task, dims, seed=0, neighbours=0):
    torch.manual_seed(seed)
    model = WaveletVAE(
        dims=dims, channels=2 if task == "recon" else 1, conditions=int(task == "denoise"),
        widths=(4,), blocks=1, neighbours=neighbours, mask=task == "inpaint",
    ).eval()  # fmt: skip
    nn.init.normal_(encoder_of(model).head.weight, std=0.05)
    return model


def around(measurement):
    """Return the neighbours of a measurement that has some."""
    assert measurement.neighbours is not None
    return measurement.neighbours


def measured(task, shape=(37, 18, 14)):
    one = case(shape=shape)
    return DEGRADATIONS[task](one.slices(), one.maximum(), torch.Generator().manual_seed(0), None).measurement


@pytest.fixture
def count(monkeypatch):
    """Set the voxels of a tile and count the calls."""
    calls = []

    def limit(voxels):
        monkeypatch.setattr(memory, "room", lambda device, ceiling=None: voxels)
        monkeypatch.setattr(whole, "bytes_per_voxel", lambda *_: 1.0)

        def noted(tiles, *rest):
            calls.extend(tiles := list(tiles))
            lanes.stream(tiles, *rest)

        monkeypatch.setattr(whole, "stream", noted)
        return calls

    return limit


@pytest.mark.parametrize("task", list(DEGRADATIONS))
@pytest.mark.parametrize("ensemble", [False, True])
def test_tiles_of_a_volume_restore_what_the_volume_restores(count, task, ensemble):
    model, measurement = network(task, 3), measured(task)
    flips = mirrored(3) if ensemble else ((),)
    expected = restore_volume(model, measurement, flips)
    if not ensemble:  # 37 slices are padded as the network pads them
        plain = magnitude(model.restore(as_volumes([measurement])))
        torch.testing.assert_close(expected, to_slices(plain), rtol=0, atol=1e-5)
    calls = count(24 * 18 * 14)
    found = restore_volume(model, measurement, flips)
    assert len(calls) > 1
    in_plane = {str(tile.read[1:]) for tile in calls}
    assert len(in_plane) == 1 or task == "denoise"  # k-space keeps a slice whole
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert float((found - magnitude(measurement.start)).abs().max()) > 1e-3


@pytest.mark.parametrize("task", list(DEGRADATIONS))
def test_slices_by_the_same_code(count, task):
    model, measurement = network(task, 2), measured(task)
    expected = magnitude(model.restore(measurement, mirrored(2)))
    calls = count(10 * 18 * 14)
    found = restore_volume(model, measurement, mirrored(2), slices=4)
    assert len(calls) == 10
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("task", list(DEGRADATIONS))
@pytest.mark.parametrize("neighbours", [1, 3])
def test_slices_between_their_neighbours_by_the_same_code(count, task, neighbours):
    model, measurement = network(task, 2, neighbours=neighbours), measured(task)
    expected = magnitude(model.restore(measurement.with_neighbours(neighbours), mirrored(2)))
    calls = count(10 * 18 * 14)
    found = restore_volume(model, measurement, mirrored(2), slices=4)
    assert len(calls) == 10
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    # They are read: another slice next door is another answer, one out of reach is none.
    moved = replace(measurement, start=measurement.start.clone())
    moved.start[20] += 0.5
    changed = (restore_volume(model, moved) - restore_volume(model, measurement)).abs().amax((1, 2, 3)) > 1e-6
    assert changed.nonzero().flatten().tolist() == [*range(20 - neighbours, 21 + neighbours)]


def test_neighbours_that_are_given_are_the_ones_that_are_read():
    """Noise2Self hides pixels of a slice, not of its neighbours: they are as they were measured."""
    model, measurement = network("denoise", 2, neighbours=1), measured("denoise")
    hidden = replace(measurement.with_neighbours(1), start=measurement.start * 0.9)
    expected = magnitude(model.restore(hidden))
    torch.testing.assert_close(restore_volume(model, hidden, slices=4), expected, rtol=0, atol=1e-5)
    seen = []
    model.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    restore_volume(model, hidden, slices=37)
    torch.testing.assert_close(around(seen[-1]), around(measurement.with_neighbours(1)), rtol=0, atol=0)


def test_neighbours_are_read_and_not_restored_with_every_step():
    model, measurement = network("denoise", 2, neighbours=3), measured("denoise")
    seen: list[int] = []
    model.register_forward_pre_hook(lambda _, given: seen.append(len(given[0].start)))
    restore_volume(model, measurement, slices=10)
    assert sum(seen[1:]) == 37 and max(seen) <= 10  # the first counts the memory of a slice


@pytest.mark.parametrize("neighbours", [1, 2])
def test_a_whole_volume_is_measured_as_its_neighbourhoods_are(neighbours):
    one = case(shape=(7, 18, 14))
    generator = [torch.Generator().manual_seed(0) for _ in range(2)]
    alone = Recon(3, 0.15, "random", 0.5)(one.slices(), one.maximum(), generator[0], None)
    found = Neighbourhoods(Recon(3, 0.15, "random", 0.5), neighbours)(
        one.slices(neighbours), one.maximum(), generator[1], None
    )
    expected = alone.measurement.with_neighbours(neighbours)
    assert around(expected).shape == (7, 2 * neighbours * 2, 18, 14)
    torch.testing.assert_close(around(found.measurement), around(expected), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.measurement.start, alone.measurement.start, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.truth, alone.truth, rtol=0, atol=1e-5)
    turned = expected.flip((-1,))
    torch.testing.assert_close(around(turned), around(expected).flip(-1))
    torch.testing.assert_close(around(expected[2:4]), around(expected)[2:4])


def test_in_training_a_neighbourhood_is_one_acquisition():
    images = torch.rand(4, 3, 18, 14)
    degrade = Neighbourhoods(Recon(3, 0.15, "random", 0.5), 1)
    found = degrade(images, torch.ones(4), torch.Generator().manual_seed(0), 1).measurement
    again = Recon(3, 0.15, "random", 0.5)(
        images.flatten(0, 1)[:, None], torch.ones(12), torch.Generator().manual_seed(0), 3
    ).measurement
    assert again.mask is not None
    assert found.mask is not None
    masks = again.mask.flatten(1)
    assert all(torch.equal(masks[i], masks[i - i % 3]) for i in range(12))
    assert len(torch.unique(masks, dim=0)) > 1
    assert torch.equal(found.mask, again.mask[1::3])
    assert torch.equal(found.start, again.start[1::3])
    assert torch.equal(around(found)[:, :2], again.start[::3])
    assert torch.equal(around(found)[:, 2:], again.start[2::3])
    torch.testing.assert_close(found.project(found.start), again.project(again.start)[1::3])


def test_the_footprint_of_a_network_on_slices_does_not_leave_the_slice():
    footprint = footprint_of(network("denoise", 2), measured("denoise"))
    assert footprint.step == (1, 2, 2)
    assert footprint.reach[0] == 0
    deep = footprint_of(network("denoise", 3), measured("denoise"))
    assert deep.step == (2, 2, 2)
    assert len(set(deep.reach)) == 1


def test_the_reach_is_measured_on_a_cpu_wherever_the_model_is(monkeypatch):
    model, elsewhere = network("denoise", 3), network("denoise", 3)
    monkeypatch.setattr(elsewhere, "parameters", lambda: iter([SimpleNamespace(device=torch.device("cuda"))]))
    monkeypatch.setattr(elsewhere, "forward", None)
    monkeypatch.setattr(restorers, "deepcopy", {elsewhere: model}.__getitem__)
    assert footprint_of(elsewhere, measured("denoise")) == footprint_of(model, measured("denoise"))


def test_mirrored_copies():
    assert [len(mirrored(dims)) for dims in (1, 2, 3)] == [2, 4, 8]
    assert len({frozenset(axes) for axes in mirrored(3)}) == 8
    assert {axis for axes in mirrored(3) for axis in axes} == {-1, -2, -3}


# --- volumes and their slices ----------------------------------------------------------------------------------------


def test_a_volume_is_its_slices():
    slices = torch.rand(5, 2, 4, 3)
    assert to_volume(slices).shape == (1, 2, 5, 4, 3)
    assert torch.equal(to_slices(to_volume(slices)), slices)


@pytest.mark.parametrize("task", list(DEGRADATIONS))
def test_data_consistency_of_a_volume_is_that_of_its_slices(task):
    measurement = measured(task)
    image = measurement.start + 0.1 * torch.rand(measurement.start.shape)
    volume = as_volumes([measurement])
    torch.testing.assert_close(to_slices(volume.project(to_volume(image))), measurement.project(image))
    torch.testing.assert_close(to_slices(volume.flip((-1,)).start), measurement.flip((-1,)).start)
    for axes in mirrored(3):
        turned = volume.flip(axes).project(to_volume(image).flip(axes)).flip(axes)
        torch.testing.assert_close(turned, volume.project(to_volume(image)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("task", list(DEGRADATIONS))
def test_degraded_volumes_are_acquisitions_of_their_own(task):
    one, two = case(shape=(6, 18, 14)), case(shape=(6, 18, 14), seed=1)
    images = torch.stack([torch.from_numpy(c.prepared.image)[None] for c in (one, two)])
    maxima = torch.cat([one.maximum(), two.maximum()])
    found = volumetric(DEGRADATIONS[task])(images, maxima, torch.Generator().manual_seed(3), 1)
    assert found.measurement.start.shape[2:] == images.shape[2:]
    generator = torch.Generator().manual_seed(3)
    for k, each in enumerate((one, two)):
        alone = DEGRADATIONS[task](each.slices(), each.maximum(), generator, None)
        torch.testing.assert_close(to_slices(found.measurement.start[k : k + 1]), alone.measurement.start)
        torch.testing.assert_close(to_slices(found.truth[k : k + 1]), alone.truth)
        again = found.measurement[k : k + 1].to(torch.device("cpu"))
        torch.testing.assert_close(
            to_slices(again.project(0 * found.truth[k : k + 1])), alone.measurement.project(0 * alone.truth)
        )


def test_a_unet_of_volumes_restores_too(count, capsys):
    torch.manual_seed(0)
    model = UNet(dims=3, conditions=1, features=(2, 2, 2, 2, 2, 2), norm="instance").eval()
    measurement = measured("denoise", (37, 66, 20))
    assert footprint_of(model, measurement).reach == (None, None, None)  # its normalisation sees the whole
    count(48 * 48 * 32)
    assert restore_volume(model, measurement).shape == (37, 1, 66, 20)
    assert "the network looks at the whole volume; tiles see less" in capsys.readouterr().err
    labelled = replace(measurement, label=torch.zeros(37, dtype=torch.int64))
    assert restore_volume(model, labelled).shape == (37, 1, 66, 20)
