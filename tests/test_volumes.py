"""Networks on volumes: patches, mapped files, training, restoration, the study from end to end."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import nn

from medwvae import build, paths, train
from medwvae.config_io import load
from medwvae.data.loaders import PatchSampler, load_cases, write_index
from medwvae.data.transforms import Prepared
from medwvae.degradation import Denoise
from medwvae.errors import ConfigError, InputError, MedwvaeError
from medwvae.names import USUAL_METRICS
from medwvae.nets.restorer import Estimate
from medwvae.nets.wavelet_vae import WaveletVAE
from medwvae.operators import Measurement
from medwvae.parallel import launched
from medwvae.volumetric import volumetric
from tests.cases import case
from tests.test_train import SETTINGS, StoppedError, assert_same, numbered, plain, stop_after

CONFIGS = Path(__file__).parents[1] / "configs"


def small():
    return WaveletVAE(conditions=1, dims=3, widths=(4, 4), blocks=1)


def run(state_dir, report=None, **changes):
    cases = [case("a", (12, 24, 20)), case("b", (11, 22, 25), seed=1)]
    validation = train.Validation([case("c", (12, 24, 20), seed=2)], Denoise(0.1), 3, seed=1, depth=8)
    settings = dataclasses.replace(SETTINGS, **{"steps": 12, **changes})
    sampler, degrade = PatchSampler(cases, (8, 16, 12)), volumetric(Denoise(0.1))
    return train.train(small, sampler, degrade, validation, settings, state_dir, report or (lambda *_: None))


# --- precision -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [8, 16, 24, 32, 40])
@pytest.mark.parametrize("name", ["wavelet_vae", "unet"])
def test_patches_with_two_slices_at_some_level_train_in_float32(monkeypatch, capsys, depth, name):
    monkeypatch.setattr("medwvae.precision.best_precision", lambda accelerator: "bf16-mixed")
    sets = ("networks.dims=3", "tasks.enabled=[denoise]", f"train.depth={depth}", "train.accelerator=cpu")
    config = load((), sets)
    multiple = build.network(config, "denoise", name).alignment()[0]
    depths = [(depth + -depth % multiple) // 2**level for level in range(10)]
    expected = "32-true" if 2 in depths[: multiple.bit_length()] else "auto"
    assert build.training(config, "denoise", name).precision == expected
    assert ("float32" in capsys.readouterr().err) == (expected == "32-true")


@pytest.mark.parametrize("slices", [1, 3, 4])
def test_bfloat16_gradients_are_right_over_other_numbers_of_slices(slices):
    """Over two they are not, of oneDNN's in PyTorch 2.13, where a CPU has bfloat16 instructions."""
    torch.manual_seed(0)
    layer, image = nn.Conv3d(12, 12, 3, padding=1), torch.rand(1, 12, slices, 6, 6)
    (exact,) = torch.autograd.grad(layer(image).square().sum(), [layer.weight])
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(image)
    (rounded,) = torch.autograd.grad(found.float().square().sum(), [layer.weight])
    assert float((rounded - exact).norm() / exact.norm()) < 0.05


def test_mixed_precision_leaves_the_data_as_they_are():
    """Fabric's own rounds all that goes into a module, the measurement and the truth among them."""
    seen = []

    class Looks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(1, 1, 3)

        def forward(self, given: Measurement, truth: torch.Tensor) -> torch.Tensor:
            seen.extend([given.start, given.data, truth, self.layer(truth)])
            return cast(torch.Tensor, self.layer(truth))

    given = Measurement(torch.rand(1, 1, 8, 8), None, torch.rand(1, 1, 8, 8))
    truth = torch.rand(1, 1, 8, 8)
    module = launched("cpu", "bf16-mixed", 1, 1).setup_module(Looks())
    answer = module(given, truth)
    assert [x.dtype for x in seen] == [torch.float32] * 3 + [torch.bfloat16] and answer.dtype == torch.float32
    assert torch.equal(seen[0], given.start) and torch.equal(seen[2], truth)
    assert given.data is not None and torch.equal(seen[1], given.data)
    with pytest.raises(ConfigError, match="16-mixed is for cards"):
        launched("cpu", "16-mixed", 1, 1)


# --- patches ---------------------------------------------------------------------------------------------------------


def test_patches_lie_around_voxels_of_the_head():
    shape = (20, 24, 22)
    chosen = numbered("a", shape)
    head = np.zeros(shape, bool)
    head[3:6, 9:12, 17:21] = True
    chosen = dataclasses.replace(chosen, prepared=dataclasses.replace(chosen.prepared, head=head))
    images, maxima, labels = PatchSampler([chosen], (8, 6, 4)).draw(100, torch.Generator().manual_seed(0))
    assert images.shape == (100, 1, 8, 6, 4)
    assert labels is None
    assert torch.equal(maxima, torch.full((100,), float(np.prod(shape))))
    inside = torch.from_numpy(head).flatten()[images.long().flatten() - 1].reshape(images.shape)
    assert bool(inside.flatten(1).any(1).all())
    places = np.unravel_index(images[:, 0].numpy().astype(int) - 1, shape)
    for axis, index in enumerate(places, start=1):
        steps = np.diff(index, axis=axis)
        assert set(np.unique(steps)) == {-1, 1}  # mirrored by chance
        assert np.ptp(steps, axis=(1, 2, 3)).max() == 0


def test_patches_larger_than_a_volume_are_padded_with_zeros_around():
    images = PatchSampler([numbered("a", (5, 10, 13))], (8, 16, 8)).draw(10, torch.Generator().manual_seed(0))[0]
    for image in images[:, 0]:
        slices, rows, columns = image.nonzero(as_tuple=True)
        assert [int(place.max() - place.min()) for place in (slices, rows, columns)] == [4, 9, 7]
        assert int((image > 0).sum()) == 5 * 10 * 8


def test_the_generator_decides_the_patches():
    sampler = PatchSampler([case("a"), case("b", seed=1)], (4, 16, 12))
    one, two, other = (sampler.draw(6, torch.Generator().manual_seed(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("mirror", "axis", "flipped"), [("none", 2, ()), ("left-right", 2, (1,)), ("left-right", 0, (0,))]
)
def test_axes_that_chance_mirrors(mirror, axis, flipped):
    shape = (8, 8, 8)
    one = numbered("a", shape)
    one = dataclasses.replace(one, prepared=dataclasses.replace(one.prepared, axis=axis))
    images = PatchSampler([one], shape, mirror).draw(30, torch.Generator().manual_seed(0))[0][:, 0]
    whole = torch.from_numpy(one.prepared.image)
    expected = {whole.numpy().tobytes()} | ({whole.flip(flipped).contiguous().numpy().tobytes()} if flipped else set())
    assert {image.contiguous().numpy().tobytes() for image in images} == expected


def test_labels_of_patches():
    cases = [case("a"), dataclasses.replace(case("b", seed=1), contrast="t2w")]
    sampler = PatchSampler(cases, (4, 8, 8))
    labels = sampler.draw(20, torch.Generator().manual_seed(0)).labels
    assert sampler.classes == ("t1w", "t2w")
    assert labels is not None
    assert set(labels.tolist()) == {0, 1}


# --- volumes that stay on disk ---------------------------------------------------------------------------------------


def test_mapped_volumes_are_the_loaded_ones(tmp_path):
    for name, seed in (("a", 0), ("b", 1)):
        case(name, (7, 9, 11), seed).prepared.save(tmp_path / "prepared" / f"{name}.npz")
    write_index(tmp_path / "prepared.csv", [("a", "a", "t1w", "train"), ("b", "b", "t1w", "train")])
    mapped = load_cases(tmp_path / "prepared.csv", "train", mapped=True)
    loaded = load_cases(tmp_path / "prepared.csv", "train")
    for one, two in zip(mapped, loaded, strict=True):
        assert isinstance(one.prepared.image, np.memmap)
        assert not one.prepared.image.flags.writeable
        np.testing.assert_array_equal(one.prepared.image, two.prepared.image)
        np.testing.assert_array_equal(one.prepared.head, two.prepared.head)
        assert one.prepared.maximum == two.prepared.maximum
        assert "maximum" in vars(load_cases(tmp_path / "prepared.csv", "train", mapped=True)[0].prepared)  # unread
        darker = dataclasses.replace(one.prepared, image=(one.prepared.image / 2).astype(np.float32))
        assert darker.maximum == one.prepared.maximum / 2
    draws = [PatchSampler(c, (4, 8, 8)).draw(8, torch.Generator().manual_seed(0)).images for c in (mapped, loaded)]
    assert torch.equal(*draws)


def test_a_compressed_volume_cannot_be_mapped(tmp_path):
    case().prepared.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as data:
        np.savez_compressed(tmp_path / "b.npz", **data)
    Prepared.load(tmp_path / "b.npz")
    with pytest.raises(InputError, match="run `medwvae preprocess` again"):
        Prepared.load(tmp_path / "b.npz", mapped=True)


# --- training --------------------------------------------------------------------------------------------------------


def test_a_network_on_volumes_trains_and_resumes_to_the_bit(tmp_path):
    expected, progress, _ = run(tmp_path / "whole")
    with pytest.raises(StoppedError):
        run(tmp_path / "parts", stop_after(5))
    weights, resumed, _ = run(tmp_path / "parts")
    assert_same(weights, expected)
    assert plain(resumed) == plain(progress)
    assert progress.best > 0
    assert weights["encoders.0.downs.0.0.first.weight"].ndim == 5


def test_the_validation_sees_a_block_of_slices():
    seen = []

    def model(measurement):
        seen.append(measurement)
        return Estimate(measurement.start, measurement.start.new_zeros(()))

    validation = train.Validation([case("c", (12, 24, 20))], Denoise(0.1), 3, seed=1, depth=8)
    score = validation(model, torch.device("cpu"))
    assert seen[0].start.shape == (1, 1, 8, 24, 20)
    assert seen[0].sigma.shape == (1, 1, 1, 1, 1)
    assert 15 < score < 30


# --- the study -------------------------------------------------------------------------------------------------------


def test_patches_fit_the_levels():
    with pytest.raises(ConfigError, match=r"train\.depth 12 must be a multiple of 2\^levels = 8"):
        load((), ("networks.dims=3", "train.depth=12"))
    load((), ("train.depth=12",))  # slices do not ask


def test_a_study_of_volumes_from_end_to_end(tmp_path, capsys):
    """Two networks on volumes are trained, restore whole volumes in tiles, and are scored."""
    from medwvae import stages

    config = load(
        (),
        (
            f"results={tmp_path}", "run=three", "networks.dims=3", "tasks.enabled=[denoise]", "classical.enabled=[]",
            "networks.enabled=[wavelet_vae, unet]", "networks.unet.features=[2, 2, 2, 2, 2, 2]",
            "networks.wavelet_vae.denoise={widths: [4], blocks: 0}", "tasks.denoise.crop=[32, 16]",
            "train={budget: 3 steps, batch: 1, validations: 1, depth: 8, accelerator: cpu, precision: 32-true}",
            "restore.self_ensemble=false",
        ),
    )  # fmt: skip
    rows = []
    for part in ("train", "val", "test"):
        case(part, (20, 32, 24)).prepared.save(paths.prepared(config.root) / f"{part}.npz")
        rows.append((part, part, "t1w", part))
    write_index(paths.prepared_index(config.root), rows)
    paths.manifest(config.root).write_text("volume\n")
    for network in ("wavelet_vae", "unet"):
        stages.train(config, "denoise", network, 1)
        stages.restore(config, "denoise", network, 1)
    stages.restore(config, "denoise", "input", 1)
    stages.evaluate(config, "denoise", 1)
    table = paths.scores(config.root, "denoise").read_text()
    assert table.count(",wavelet_vae,") == table.count(",unet,") == 2 * (len(USUAL_METRICS) - 1)  # two regions; no CT
    volume = paths.restored(config.root, "denoise", "wavelet_vae") / "test.nii.gz"
    before = volume.read_bytes()
    stages.restore(config, "denoise", "wavelet_vae", 1, "20 GiB")
    assert volume.read_bytes() == before
    with pytest.raises(MedwvaeError, match=r"too little .* raise --max-memory"):
        stages.restore(config, "denoise", "wavelet_vae", 1, "1 MiB")


def test_thick_slices_need_volumes():
    with pytest.raises(ConfigError, match=r"networks\.wavelet_vae\.denoise\.slice_levels needs networks\.dims = 3"):
        load((), ("networks.wavelet_vae.denoise.slice_levels=2",))
    with pytest.raises(ConfigError, match="slice_levels 4 are more than the 3 levels of widths"):
        load((), ("networks.dims=3", "networks.wavelet_vae.denoise.slice_levels=4"))
    assert load((), ("networks.dims=3", "networks.wavelet_vae.denoise.slice_levels=2")).networks.dims == 3


TINY = (
    "phantom={subjects: 5, shape: [48, 32, 18], spacing: [4.0, 7.0, 9.0]}",
    "tasks.denoise.crop=[48, 16]", "tasks.superres.crop=[48, 16]", "networks.unet.features=[4, 4, 4, 4, 4, 4]",
    "train={budget: 4 steps, batch: 2, validations: 2, depth: 8, accelerator: cpu, precision: 32-true}",
    "restore.self_ensemble=false", "classical={enabled: [zero_filled], tuning_subjects: 1, tuning_slices: 1}",
)  # fmt: skip
THICK = {"widths": [4, 4], "blocks": 1, "slice_levels": 1}
"""One wavelet level across the slices and two in plane."""


def studied(config):
    """Do what the rules do from prepared volumes on."""
    from medwvae import stages
    from medwvae.stages.plan import methods_of

    for task in config.tasks.enabled:
        for network in config.networks.enabled:
            stages.train(config, task, network, 1)
        for method in methods_of(config, task):
            stages.restore(config, task, method, 1)
        stages.evaluate(config, task, 1)
    stages.write_config(config)
    stages.report(config)
    page = paths.report(config.root).read_text()
    assert "<html" in page
    assert "Wavelet-VAE" in page


@pytest.mark.slow
def test_the_study_of_volumes_beside_that_of_slices(tmp_path):
    """configs/ixi3d.yaml and the slices on top of it, in small: from DICOM to the reports and the comparison."""
    from medwvae import stages

    def study(*files, **wavelet_vae):
        nets = [f"networks.wavelet_vae.{task}={json.dumps(options)}" for task, options in wavelet_vae.items()]
        return load([CONFIGS / file for file in files], (f"results={tmp_path}", *TINY, *nets))

    volumes = study("ixi3d.yaml", denoise=THICK, superres=THICK | {"slice_levels": None})
    slices = study(
        "ixi3d.yaml", "ixi3d_slices.yaml", **dict.fromkeys(("denoise", "superres"), THICK | {"slice_levels": None})
    )
    assert (volumes.networks.dims, slices.networks.dims) == (3, 2)
    assert volumes.problem("superres").section == slices.problem("superres").section
    assert volumes.preprocess == slices.preprocess
    stages.phantom(volumes, 1)
    stages.ingest(volumes, 1)
    stages.split(volumes)
    stages.preprocess(volumes, 1)
    shutil.copytree(volumes.root, slices.root)
    for config in (volumes, slices):
        studied(config)
    table = tmp_path / "compared.json"
    failed = stages.compare(
        [slices.root, volumes.root],
        methods=["wavelet_vae", "unet"],
        region="head",
        fail_if_worse=[],
        allow_missing=False,
        json_file=table,
        out=[tmp_path / "compared.html"],
    )
    assert not failed
    rows = [row for row in json.loads(table.read_text())["rows"] if row["metric"] == "psnr"]
    found = {(row["task"], row["method"]) for row in rows}
    assert found >= {(task, method) for task in ("denoise", "superres") for method in ("wavelet_vae", "unet")}
