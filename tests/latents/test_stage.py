"""The subcommands, from arguments to files; training and the study's own plumbing are stood in for."""

import json
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from medwvae import stages
from medwvae.cli import app
from medwvae.config import Config
from medwvae.config_io import load
from medwvae.data import nifti
from medwvae.data.loaders import Case
from medwvae.data.transforms import prepare
from medwvae.errors import ConfigError, InputError, MedwvaeError
from medwvae.latents import figures
from medwvae.latents.places import reach
from medwvae.nets.wavelet_latent import WaveletLatentVAE
from medwvae.stages import latents
from tests.cases import case, head_like
from tests.latents.models import Waves
from tests.latents.volumes import SlicesInMemory, VolumesInMemory

AFFINE = np.array([[0.0, -1.5, 0, 10], [1.0, 0, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]])
SHAPE = (18, 20)


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study with two test subjects and models of slices, `waves` and `labelled`."""
    cases = [case(f"v{k}", (9, *SHAPE), seed=k, subject=f"s{k}") for k in range(2)]
    models = {"waves": Waves(), "labelled": Waves(classes=2), "wavelet": tiny_wavelet_vae(2)}
    stand_in(monkeypatch, models, SlicesInMemory(cases, SHAPE))
    monkeypatch.chdir(tmp_path)
    return Config()


@pytest.fixture
def deep_study(tmp_path, monkeypatch):
    """A study of volumes with two test subjects and models with three axes."""
    cases = [case(f"v{k}", (14, 24, 26), seed=k, subject=f"s{k}") for k in range(2)]
    models = {"deep": Waves(dims=3), "wavelet": tiny_wavelet_vae(3)}
    stand_in(monkeypatch, models, VolumesInMemory(cases, (12, 13, 12), (2, 2, 1)))
    monkeypatch.chdir(tmp_path)
    return load(overrides={"generative.data": {"kind": "volumes"}})


def stand_in(monkeypatch, models, source):
    monkeypatch.setattr(latents, "_load_model", lambda _, name: models[name])
    monkeypatch.setattr(latents, "_source", lambda _: source)


def tiny_wavelet_vae(dims):
    torch.manual_seed(0)
    widths: Any = {"widths": (4, 4), "blocks": 1, "prior_width": 4, "prior_blocks": 1}
    return WaveletLatentVAE(objective="elbo", rate=2**dims, dims=dims, **widths).eval()


def looked_at(path, words):
    with Image.open(path) as picture:
        assert words in picture.info["Description"]
        assert "Software" not in picture.info
        assert min(picture.size) > 100
        assert np.asarray(picture.convert("L")).std() > 5


def loaded(path):
    with np.load(path) as file:
        return dict(file)


def run(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output


def test_samples_come_as_a_grid_and_as_arrays(study, tmp_path):
    run("sample", "--model", "waves", "--count", "5", "--out", tmp_path / "a")
    run("sample", "--model", "waves", "--count", "3", "--out", tmp_path / "b", "--seed", study.seed)
    arrays = [loaded(tmp_path / name / "samples.npz")["images"] for name in "ab"]
    assert arrays[0].shape == (5, 1, *SHAPE)
    np.testing.assert_allclose(arrays[0][:3], arrays[1], atol=1e-6)
    looked_at(tmp_path / "a" / "samples.png", "5 samples of waves")
    assert not list((tmp_path / "a").glob("*.nii.gz"))


def test_a_3d_model_gives_volumes_of_any_size(deep_study, tmp_path):
    folder = stages.sample(deep_study, "deep", 1, count=2)
    assert folder == deep_study.root / "latents" / "deep"
    volume, affine = nifti.read(folder / "sample_001.nii.gz")
    assert volume.shape == (12, 13, 12)
    np.testing.assert_allclose(affine[:3, :3], np.diag([2, 2, 3]))  # of the study's grid, and nobody's place
    np.testing.assert_allclose(affine[:3] @ [5.5, 6, 5.5, 1], 0, atol=1e-6)
    looked_at(folder / "samples.png", "2 samples")
    run("sample", "--model", "wavelet", "--count", 1, "--size", "9,8,7", "--out", tmp_path)
    assert nifti.read(tmp_path / "sample_000.nii.gz")[0].shape == (9, 8, 7)
    with pytest.raises(InputError, match="3 spatial axes"):
        stages.sample(deep_study, "deep", 1, count=1, shape="9,8")


def test_classes_are_asked_for_by_name(study):
    with pytest.raises(InputError, match=r"by --label: t1w, t2w$"):
        stages.sample(study, "labelled", 1, count=1)
    with pytest.raises(InputError, match="t1w, t2w; got cat"):
        stages.sample(study, "labelled", 1, count=1, label="cat")
    with pytest.raises(InputError, match="commas"):
        stages.sample(study, "waves", 1, count=1, shape="9x9")


def test_walks_of_two_models_stand_side_by_side(study, tmp_path):
    run("interpolate", "--model", "waves", "--model", "labelled", "--steps", 4, "--label", "t1w", "--out", tmp_path)
    facts = json.loads((tmp_path / "walk.json").read_text())["models"]
    assert facts["waves"] == facts["labelled"]
    looked_at(tmp_path / "walk.png", "by waves, labelled")


def test_a_walk_is_drawn_and_measured(study, tmp_path):
    run(
        "interpolate",
        "--model",
        "waves",
        "--steps",
        4,
        "--kind",
        "linear",
        "--from",
        "s1",
        "--to",
        "s0",
        "--out",
        tmp_path,
    )
    facts = json.loads((tmp_path / "walk.json").read_text())
    assert facts["subjects"] == ["s1", "s0"]
    assert facts["models"]["waves"]["path_ratio"] == pytest.approx(1, abs=1e-4)
    assert loaded(tmp_path / "walk.npz")["waves"].shape == (4, 1, *SHAPE)
    looked_at(tmp_path / "walk.png", "linear walk")
    wrong: list[tuple[dict[str, Any], type[MedwvaeError], str]] = [
        ({"first": "s7"}, ConfigError, "no test subject 's7'; have: s0, s1"),
        ({"kind": "round"}, InputError, "linear or spherical"),
        ({"label": "t2w"}, InputError, "no classes"),
    ]
    for options, error, words in wrong:
        with pytest.raises(error, match=words):
            stages.interpolate(study, ["waves"], 1, out=tmp_path, **options)


@pytest.mark.parametrize("method", ["chain", "map"])
def test_a_block_is_taken_out_and_filled_in(study, tmp_path, method):
    run("impute", "--model", "waves", "--hole", 5, "--sweeps", 20, "--method", method, "--out", tmp_path)
    facts = json.loads((tmp_path / "imputed.json").read_text())
    assert set(facts["rmse_in_hole"]) == {"mean", "biharmonic", "waves"}
    arrays = loaded(tmp_path / "imputed.npz")
    known = arrays["known"]
    assert ((~known).sum((1, 2, 3)) == 25).all()
    assert np.array_equal(arrays["image"][known], arrays["truth"][known])
    assert ("deviation" in arrays) == (method == "chain")
    looked_at(tmp_path / "imputed.png", "RMSE in the hole")


@pytest.mark.parametrize("axis", [0, 2])
def test_missing_slices_of_a_volume_are_filled_in(deep_study, tmp_path, axis):
    asked = ("--missing-slices", "3,4", "--axis", axis, "--sweeps", 10, "--count", 1)
    run("impute", "--model", "deep", *asked, "--out", tmp_path)
    arrays = loaded(tmp_path / "imputed.npz")
    others = tuple(k for k in range(5) if k != 2 + axis)
    assert np.flatnonzero(~arrays["known"].any(others)).tolist() == [3, 4]
    assert np.flatnonzero(~arrays["known"].all(others)).tolist() == [3, 4]
    assert np.array_equal(arrays["image"][arrays["known"]], arrays["truth"][arrays["known"]])
    facts = json.loads((tmp_path / "imputed.json").read_text())["rmse_in_hole"]
    assert set(facts) == {"mean", "deep"}
    looked_at(tmp_path / "imputed.png", "RMSE in the hole")


def test_a_walk_through_volumes_shows_three_slices_of_each(deep_study, tmp_path):
    stages.interpolate(deep_study, ["wavelet"], 1, steps=3, out=tmp_path)
    assert loaded(tmp_path / "walk.npz")["wavelet"].shape == (3, 1, 12, 13, 12)
    looked_at(tmp_path / "walk.png", "walk between two subjects")


def test_slices_are_missing_from_volumes_only(study):
    with pytest.raises(InputError, match="3D model"):
        stages.impute(study, "waves", 1, missing_slices="3,4")
    with pytest.raises(InputError, match="does not fit"):
        stages.impute(study, "waves", 1, hole=19)
    with pytest.raises(InputError, match="chain or map"):
        stages.impute(study, "waves", 1, method="guess")


@pytest.fixture
def scan(tmp_path):
    """A head whose values suit no float32 exactly, and a mask of a box within it, on a sheared-free oblique grid."""
    volume, _ = head_like((40, 36, 12))
    volume = (volume * 1000 - 1000 + np.random.default_rng(0).normal(0, 20, volume.shape)).astype(np.float32)
    mask = np.zeros(volume.shape, np.uint8)
    mask[10:30, 8:28] = 1
    nifti.write(tmp_path / "in.nii.gz", volume, AFFINE)
    nifti.write(tmp_path / "mask.nii.gz", mask, AFFINE)
    return tmp_path, volume


@pytest.mark.parametrize(
    "options", [("--levels", "2,2,0"), ("--levels", "3"), ("--dims", "2"), ("--dims", 2, "--axis", 0)]
)
def test_edit_leaves_what_lies_deep_in_the_mask(scan, options):
    folder, volume = scan
    run(
        "edit",
        folder / "in.nii.gz",
        folder / "out.nii.gz",
        "--gain",
        "level1=0",
        "--mask",
        folder / "mask.nii.gz",
        *options,
    )
    edited, affine = nifti.read(folder / "out.nii.gz")
    np.testing.assert_array_equal(affine, nifti.read(folder / "in.nii.gz")[1])
    far = reach("db4", 1)
    deep = (slice(None) if 0 in options else slice(10 + far, 30 - far), slice(8 + far, 28 - far))
    if 0 not in options:
        assert np.array_equal(edited[deep], volume[deep])
        assert volume[deep].size
    assert (edited != volume).mean() > 0.3


def test_edit_takes_gains_inside_and_refuses_what_does_not_fit(scan):
    folder, volume = scan
    source, out, mask = folder / "in.nii.gz", folder / "out.nii", folder / "mask.nii.gz"
    stages.edit(source, out, [], inside=["level1=2", "level2=1.5"], mask=mask, levels="2", wavelet="haar")
    edited, _ = nifti.read(out)
    assert np.array_equal(edited[:8], volume[:8])
    assert not np.array_equal(edited[15:25], volume[15:25])
    moved = AFFINE.copy()
    moved[0, 3] += 1
    nifti.write(folder / "moved.nii.gz", nifti.read(mask)[0], moved)
    nifti.write(folder / "small.nii.gz", nifti.read(mask)[0][1:], AFFINE)
    for arguments, options, words in (
        ((source, out, ["level9=0"]), {}, "'level9'; have: details"),
        ((source, out, ["level1"]), {}, "NAME=FACTOR"),
        ((source, out, ["level1=0", "level1=2"]), {}, "two gains for level1"),
        ((source, out, []), {"inside": ["level1=0"]}, "--mask"),
        ((source, out, []), {"mask": folder / "moved.nii.gz"}, "lie elsewhere"),
        ((source, out, []), {"mask": folder / "small.nii.gz"}, "39x36x12 voxels, the volume 40x36x12"),
        ((source, out, []), {"wavelet": "morl"}, "no discrete wavelet"),
        ((source, out, []), {"mode": "smooth"}, "no border mode"),
        ((source, out, []), {"dims": 4}, "--dims is 4"),
        ((source, out, []), {"dims": 2, "axis": 5}, "--axis is 5"),
        ((source, out, []), {"levels": "two"}, "whole numbers"),
        ((source, source, []), {}, "another name"),
        ((source, folder / "out.png", []), {}, "nii.gz"),
        ((folder / "none.nii.gz", out, []), {}, "is no file"),
    ):
        with pytest.raises(MedwvaeError, match=words):
            stages.edit(*arguments, **options)


@pytest.mark.parametrize("options", [(), ("--dims", 3, "--levels", 2), ("--axis", 0, "--index", 20)])
def test_heatmaps_are_drawn(scan, options):
    folder, _ = scan
    run("heatmap", folder / "in.nii.gz", folder / "maps.png", *options)
    looked_at(folder / "maps.png", "Magnitude of db4 coefficients")


def test_heatmap_refuses_what_is_not_there(scan):
    folder, _ = scan
    for out, index, words in ((folder / "a.png", 12, "0 to 11"), (folder / "a.svg", 3, "PNG")):
        with pytest.raises(InputError, match=words):
            stages.heatmap(folder / "in.nii.gz", out, index=index)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_models_own_latent_is_edited_and_mapped(study, scan, monkeypatch, dims):
    folder, _ = scan
    source, out, mask = folder / "in.nii.gz", folder / "out.nii.gz", folder / "mask.nii.gz"
    model = tiny_wavelet_vae(dims)
    grid = SlicesInMemory([], (36, 44)) if dims == 2 else VolumesInMemory([], (18, 21, 11), (2, 2, 1))
    stand_in(monkeypatch, {"wavelet": model, "waves": Waves(dims=dims)}, grid)
    run("edit", source, out, "--gain", "details=1", "--model", "wavelet")
    plain, affine = nifti.read(out)
    prepared = prepare(source, modality="MR", plane="acquired", percentile=99.0)
    own = grid.fitted(Case("v", "s", "unknown", prepared))
    x = own.slices() if dims == 2 else own.slices()[:, 0][None, None]
    with torch.no_grad():
        again = model.reconstruct(x)
    expected, _ = grid.returned(
        Case("v", "s", "unknown", prepared), (again[0, 0] if dims == 3 else again[:, 0]).numpy()
    )
    np.testing.assert_allclose(plain, expected, rtol=1e-5, atol=1e-3 * np.abs(expected).max())
    np.testing.assert_allclose(affine, prepared.affine if dims == 2 else own.prepared.affine, atol=1e-5)
    run("edit", source, out, "--gain", "details=0", "--gain-inside", "level2=1.5", "--mask", mask, "--model", "wavelet")
    assert not np.array_equal(nifti.read(out)[0], plain)
    run("heatmap", source, folder / "maps.png", "--model", "wavelet")
    looked_at(folder / "maps.png", "what the latent of wavelet holds")
    config = Config()
    for model_name, gains, options, words in (
        ("waves", ["details=0"], {}, "no set of wavelet coefficients"),
        ("wavelet", ["level1=0"], {}, "holds nothing of level1; it holds"),
        ("wavelet", [], {"inside": ["level2=0"]}, "--mask"),
        ("wavelet", ["details=0"], {"label": "t1w"}, "no classes"),
    ):
        with pytest.raises(InputError, match=words):
            stages.edit_latent(config, model_name, source, out, gains, **options)
    with pytest.raises(InputError, match="--index is 99" if dims == 2 else "--index is of slices"):
        stages.heatmap_latent(config, "wavelet", source, folder / "maps.png", index=99)
    if dims == 3:
        small = np.zeros_like(nifti.read(mask)[0])
        small[20, 18, 6] = 1  # a quarter of a voxel of the model's
        nifti.write(folder / "small.nii.gz", small, AFFINE)
        with pytest.raises(InputError, match="nothing of the mask is left"):
            stages.edit_latent(config, "wavelet", source, out, ["details=0"], mask=folder / "small.nii.gz")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["edit", "a.nii", "b.nii", "--gain", "d=0", "--model", "m", "--levels", "2", "--axis", "1"],
            "--levels, --axis: ",
        ),
        (["edit", "a.nii", "b.nii", "--gain", "d=0", "--label", "t1w"], "--label: that is for a trained model"),
        (["heatmap", "a.nii", "b.png", "--model", "m", "--wavelet", "haar"], "--wavelet: the transform is the model's"),
        (["heatmap", "a.nii", "b.png", "-c", "none.yaml"], "--config: that is for a trained model"),
        (["impute", "--model", "m", "--axis", "1"], "--axis: that is the axis of missing slices"),
        (["impute", "--model", "m", "--missing-slices", "3", "--hole", "9"], "--hole: slices are missing"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_options_that_would_say_nothing_are_refused(arguments, words):
    answer = CliRunner().invoke(app, arguments)
    assert isinstance(answer.exception, InputError)
    assert str(answer.exception).startswith(words)


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    images = torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(0)).numpy()
    for name in ("a.png", "b.png"):
        figures.save(tmp_path / name, figures.grid(images), "three")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert figures.window(np.zeros((1, 2, 2))) == 1.0
    assert matplotlib.rcParams["font.size"] != 8  # the style stays in the figure
