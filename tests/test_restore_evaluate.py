import json
import re
from dataclasses import replace
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor

from medwvae import restore
from medwvae.data import nifti
from medwvae.data.loaders import Case, load_cases, write_index
from medwvae.data.transforms import Plane, Prepared, head_mask, prepare, reference_intensityd, slice_axis
from medwvae.degradation import Clean, Degradation, Denoise, Inpaint, Recon, SparseView, Superres
from medwvae.errors import InputError
from medwvae.evaluate import COLUMNS, Restored, by_subject, score_volumes, write_table
from medwvae.intensity import LinearScaling
from medwvae.load import Load
from medwvae.names import REGIONS, TASKS, task_of
from medwvae.nets.unet import UNet
from medwvae.operators import Radon, magnitude
from medwvae.operators.base import STEPS
from medwvae.progress import counter
from tests.cases import case, ellipsoid, head_like

DEGRADATIONS: dict[str, Degradation] = {
    "superres": Superres(2),
    "denoise": Denoise(0.1),
    "recon": Recon(3, 0.15, "random", 0.5),
    "ct": SparseView(12),
    "inpaint": Inpaint(),
}
PLANES: dict[Plane, int] = {"sagittal": 0, "coronal": 1, "axial": 2}
SHAPE = (25, 30, 19)


def scanned(path, modality="MR", shape=SHAPE):
    """Write an oblique canonical volume with an uneven background; return it and its affine."""
    image, head = head_like(shape)
    rng = np.random.default_rng(0)
    volume = 700 * image + 3 * rng.random(shape, dtype=np.float32)
    if modality == "CT":
        volume = np.where(head, 40 + 30 * image, -1000).astype(np.float32)
    angle = 0.2
    affine = np.eye(4)
    affine[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine[:3, :3] *= [1.1, 0.9, 1.0]
    affine[:3, 3] = [-20, 13, 5.5]
    nifti.write(path, volume, affine)
    return volume, affine


# --- prepared volumes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize("plane", list(PLANES))
def test_preparation_is_invertible(tmp_path, plane, modality):
    volume, affine = scanned(tmp_path / "a.nii.gz", modality)
    prepared = prepare(tmp_path / "a.nii.gz", modality=modality, plane=plane, percentile=99)
    axis = PLANES[plane]
    assert prepared.axis == axis
    assert prepared.image.shape == prepared.head.shape == tuple(np.moveaxis(np.empty(SHAPE), axis, 0).shape)
    np.testing.assert_allclose(prepared.to_volume(prepared.image), volume, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(prepared.to_slices(prepared.to_volume(prepared.image)), prepared.image, atol=1e-5)
    np.testing.assert_allclose(prepared.affine, affine, atol=1e-5)
    assert np.percentile(prepared.image[prepared.head], 99) == pytest.approx(1, rel=1e-4)
    assert abs(np.median(prepared.image[~prepared.head])) < 0.02  # air


@given(st.permutations((0, 1, 2)), st.floats(-1000, 1000), st.floats(0.1, 1e4))
def test_to_volume_and_to_slices_are_inverse(order, offset, factor):
    image, head = head_like((5, 6, 7))
    prepared = Prepared(image, head, LinearScaling(offset, factor), order[0], np.eye(4))
    volume = prepared.to_volume(image)
    assert volume.shape == np.moveaxis(image, 0, order[0]).shape
    tolerance = 1e-6 * (1 + abs(offset) / factor)
    np.testing.assert_allclose(prepared.to_slices(volume), image, atol=tolerance)


def test_prepared_volumes_read_back(tmp_path):
    one, two = case("a", seed=1, axis=0).prepared, case("b", seed=2, axis=1).prepared
    for name, prepared in (("a", one), ("b", two)):
        prepared.save(tmp_path / "prepared" / f"{name}.npz")
        back = Prepared.load(tmp_path / "prepared" / f"{name}.npz")
        assert (back.axis, back.scaling, back.maximum) == (prepared.axis, prepared.scaling, prepared.maximum)
        for field in ("image", "head", "affine"):
            assert getattr(back, field).dtype == getattr(prepared, field).dtype
            np.testing.assert_array_equal(getattr(back, field), getattr(prepared, field))
    write_index(tmp_path / "prepared.csv", [("b", "s2", "t2w", "test"), ("a", "s1", "t1w", "train")])
    (found,) = load_cases(tmp_path / "prepared.csv", "test")
    assert (found.volume, found.subject, found.contrast) == ("b", "s2", "t2w")
    with pytest.raises(InputError, match="no volume in the val part"):
        load_cases(tmp_path / "prepared.csv", "val")


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut", "pickle"])
def test_a_damaged_prepared_volume_is_an_input_error(tmp_path, damage):
    path = tmp_path / "a.npz"
    if damage in ("empty", "text"):
        path.write_text("no archive" if damage == "text" else "")
    elif damage == "cut":
        case().prepared.save(path)
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "pickle":
        np.savez(path, image=np.array([{}], dtype=object), meta=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="run `medwvae preprocess` again"):
        Prepared.load(path)


@given(st.permutations((0, 1, 2)), st.floats(0.3, 3), st.floats(1.3, 6))
def test_slices_lie_across_the_thickest_voxels(order, fine, ratio):
    spacing = [fine, fine, fine]
    spacing[order[0]] = fine * ratio
    assert slice_axis(tuple(spacing), "acquired") == order[0]
    assert [slice_axis(tuple(spacing), plane) for plane in PLANES] == [0, 1, 2]


@given(st.floats(0.3, 3), st.lists(st.floats(1, 1.19), min_size=3, max_size=3))
def test_nearly_isotropic_volumes_are_cut_axially(fine, ratios):
    assert slice_axis(tuple(fine * ratio for ratio in ratios), "acquired") == 2


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_the_head_mask_finds_the_head(noise):
    head = ellipsoid((40, 48, 36))
    image = (0.7 + 0.3 * np.cos(np.arange(48) / 4)[:, None]) * head
    image[18:24, 20:28, 15:20] = 0  # a ventricle
    rng = np.random.default_rng(0)
    image = np.hypot(image + noise * rng.standard_normal(image.shape), noise * rng.standard_normal(image.shape))
    image[:2, :2, :2] = 1.0  # a bright speck outside
    mask = head_mask((500 * image).astype(np.float32))
    assert 2 * (mask & head).sum() / (mask.sum() + head.sum()) > 0.95
    assert not mask[:2, :2, :2].any()
    assert mask[18:24, 20:28, 15:20].all()


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_the_monai_transform_undoes_itself(modality):
    image, head = head_like((10, 12, 14))
    volume = 900 * image - (1000 if modality == "CT" else 0)
    transform = reference_intensityd("image", modality=modality, percentile=99)
    given_ = {"image": MetaTensor(torch.from_numpy(volume)[None]), "head": head}
    scaled = transform(given_)
    assert np.percentile(scaled["image"].numpy()[0][head], 99) == pytest.approx(1, rel=1e-5)
    assert scaled["image"].applied_operations
    back = transform.inverse(scaled)["image"]
    np.testing.assert_allclose(back.numpy()[0], volume, rtol=1e-6, atol=1e-3)
    np.testing.assert_array_equal(given_["image"].numpy()[0], volume)  # the given one is left alone
    assert not back.applied_operations


# --- simulation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["denoise", "recon"])
def test_a_subject_meets_the_same_measurement_every_time(task):
    degrade, (one, two) = DEGRADATIONS[task], (case("a"), case("a2", subject="b"))
    first = restore.Acquisition(degrade, 1, task)(one).measurement
    restore.Acquisition(degrade, 1, task)(two)
    torch.manual_seed(5)
    again = restore.Acquisition(degrade, 1, task)(one).measurement
    assert torch.equal(first.start, again.start)
    other = Case(two.volume, two.subject, two.contrast, one.prepared)  # the same image of another subject
    for different in (
        restore.Acquisition(degrade, 1, task)(other),
        restore.Acquisition(degrade, 2, task)(one),
        restore.Acquisition(degrade, 1, "another task")(one),
    ):
        assert not torch.equal(first.start, different.measurement.start)


@pytest.mark.parametrize(
    ("name", "degrade", "steps"),
    [
        ("ct", SparseView(12), Radon.thorough),
        ("ct", SparseView(12, photons=1e4), STEPS),
        ("recon", DEGRADATIONS["recon"], STEPS),
        ("denoise", DEGRADATIONS["denoise"], STEPS),
    ],
)
def test_answers_agree_with_exact_data_more_thoroughly_than_training_does(name, degrade, steps):
    given = restore.Acquisition(degrade, 1, name)(case()).measurement
    assert given.steps == steps
    operator, data = given.operator, given.data
    if steps == STEPS or operator is None or data is None:
        return
    rough = replace(given, steps=STEPS)
    guess = given.start + 0.1 * torch.randn(given.start.shape, generator=torch.Generator().manual_seed(0))
    left = [float((operator.forward(one.project(guess)) - data).norm() / data.norm()) for one in (rough, given)]
    assert left[1] < left[0] / 5


def test_how_thoroughly_answers_agree_can_be_said():
    for degrade, steps in ((SparseView(12), 3), (SparseView(12, photons=1e4), STEPS)):
        assert restore.Acquisition(degrade, 1, "ct", steps=3)(case()).measurement.steps == steps


def test_a_volume_is_one_acquisition():
    measurement = restore.Acquisition(DEGRADATIONS["recon"], 1, "recon")(case()).measurement
    assert measurement.mask is not None
    assert measurement.mask.shape == (1, 1, 1, 20)


# --- restoration -----------------------------------------------------------------------------------------------------


def prepared_case(folder, plane, name="a"):
    scanned(folder / f"{name}.nii.gz")
    return Case(name, name, "t1w", prepare(folder / f"{name}.nii.gz", modality="MR", plane=plane, percentile=99))


@pytest.mark.parametrize("plane", list(PLANES))
def test_a_restored_volume_lies_on_the_canonical_grid(tmp_path, plane):
    chosen = prepared_case(tmp_path, plane)
    counted = []
    record = restore.restore_cases(
        [chosen], restore.input_method, restore.Acquisition(Clean(), 1, "denoise"), folder=tmp_path / "out",
        record=restore.Record("input"), advance=lambda **figures: counted.append(figures),
    )  # fmt: skip
    truth, found = nib.load(tmp_path / "a.nii.gz"), nib.load(tmp_path / "out" / "a.nii.gz")
    assert found.shape == truth.shape == SHAPE
    np.testing.assert_allclose(found.affine, truth.affine, atol=1e-5)
    np.testing.assert_allclose(found.get_fdata(), truth.get_fdata(), rtol=1e-4, atol=0.01)
    (figures,) = counted
    assert figures.keys() == {"voxels_per_s"}
    assert figures["voxels_per_s"] > 0
    assert record.seconds_per_volume.keys() == {"a"}
    restore.write_record(tmp_path / "out" / "record.json", record)
    assert json.loads((tmp_path / "out" / "record.json").read_text())["kind"] == "input"


def test_the_line_of_a_restoration_says_how_fast_it_is_and_how_busy_the_card(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: 93)
    with counter("restore", 1) as advance:
        restore.restore_cases(
            [prepared_case(tmp_path, "axial")], restore.input_method,
            restore.Acquisition(Clean(), 1, "denoise"), folder=tmp_path / "out", record=restore.Record("input"),
            advance=advance, load=Load(torch.device("cuda")),
        )  # fmt: skip
    assert re.search(r"restore: 100 %  voxels per s \S+  card busy percent 93", capsys.readouterr().err)


@pytest.mark.parametrize(("precision", "allowed"), [("32-true", False), ("bf16-mixed", True)])
def test_float32_is_exact_on_a_card_where_it_was_chosen(monkeypatch, precision, allowed):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", not allowed)
    measurement = restore.Acquisition(DEGRADATIONS["superres"], 1, "superres")(case(shape=(3, 24, 20))).measurement
    restore.network_method(UNet(features=(4,) * 6), self_ensemble=False, batch=3, precision=precision)(measurement)
    assert torch.backends.cudnn.allow_tf32 == allowed


@pytest.mark.parametrize("task", TASKS)
def test_what_nothing_was_taken_from_scores_perfectly(tmp_path, task):
    chosen = prepared_case(tmp_path, "axial")
    restore.restore_cases(
        [chosen], restore.input_method, restore.Acquisition(Clean(), 1, task), folder=tmp_path / "out",
        record=restore.Record("input"),
    )  # fmt: skip
    scores = scores_of([chosen], tmp_path / "out", task).set_index(["region", "metric"])["value"]
    for region in ("head", "whole"):
        assert scores[region, "psnr"] > 90  # what float32 keeps of the scaling and back
        assert scores[region, "ssim"] == pytest.approx(1, abs=1e-5)
        assert scores[region, "nmse"] < 1e-8


@pytest.mark.parametrize("task", ["superres", "denoise", "recon"])
@pytest.mark.parametrize("ensemble", [False, True])
def test_batches_do_not_change_what_a_network_restores(task, ensemble):
    torch.manual_seed(0)
    model = UNet(channels=2 if task == "recon" else 1, conditions=int(task == "denoise"), features=(4,) * 6)
    measurement = restore.Acquisition(DEGRADATIONS[task], 1, task)(case(shape=(5, 24, 20))).measurement
    one, two = (
        restore.network_method(model, self_ensemble=ensemble, batch=batch, precision="32-true")(measurement)
        for batch in (2, 100)
    )
    assert one.shape == (5, 1, 24, 20)
    assert not model.training
    torch.testing.assert_close(one, two, rtol=0, atol=1e-5)
    assert (one >= 0).all() or task != "recon"  # a magnitude


def test_the_input_is_the_magnitude_of_the_start():
    measurement = restore.Acquisition(DEGRADATIONS["recon"], 1, "recon")(case()).measurement
    torch.testing.assert_close(restore.input_method(measurement), magnitude(measurement.start))


# --- evaluation ------------------------------------------------------------------------------------------------------


def scores_of(cases, folder, task="denoise", regions=("head", "whole")):
    items = [Restored("input", "input", folder)]
    return score_volumes(cases, items, run="r", task=task, setting="s", regions=regions, protocol="brainweb-rician")


def test_a_subject_is_the_mean_of_its_volumes(tmp_path):
    shape = (12, 24, 20)
    cases = [case(name, shape, seed, subject=name[0]) for seed, name in enumerate(("a1", "a2", "b1"))]
    restore.restore_cases(
        cases, restore.input_method, restore.Acquisition(Denoise(0.1), 1, "denoise"), folder=tmp_path,
        record=restore.Record("input"),
    )  # fmt: skip
    volumes = scores_of(cases, tmp_path)
    assert len(volumes) == 3 * 2 * 3
    assert set(volumes["volume"]) == {"a1", "a2", "b1"}
    subjects = by_subject(volumes)
    assert tuple(subjects) == COLUMNS
    assert len(subjects) == 2 * 2 * 3
    keys = ["region", "metric"]
    expected = volumes[volumes["subject"] == "a"].groupby(keys)["value"].mean()
    found = subjects[subjects["subject"] == "a"].set_index(keys)["value"]
    for key, value in expected.items():
        assert found[key] == pytest.approx(value)
    only = scores_of(cases, tmp_path, regions=("head",))
    assert set(only["region"]) == {"head"}
    write_table(tmp_path / "metrics.csv", subjects)
    assert (tmp_path / "metrics.csv").read_text().splitlines()[0] == ",".join(COLUMNS)


def test_two_volumes_that_miss_a_target_on_either_side_are_not_at_it():
    columns = [name for name in COLUMNS if name != "distance"]
    row = dict.fromkeys(columns, "x") | {"subject": "a", "region": "head"}
    values = {"hu_bias_soft": (20.0, -20.0), "edge_sharpness": (0.8, 1.1), "psnr": (30.0, 32.0)}
    volumes = pd.DataFrame([row | {"metric": name, "value": v} for name, pair in values.items() for v in pair])
    found = by_subject(volumes).set_index("metric")
    assert found["value"].to_dict() == pytest.approx({"hu_bias_soft": 0.0, "edge_sharpness": 0.95, "psnr": 31.0})
    assert found["distance"].dropna().to_dict() == pytest.approx({"hu_bias_soft": 20.0, "edge_sharpness": 0.15})


def test_scores_ask_for_every_volume_on_its_own_grid(tmp_path):
    chosen = case("a")
    with pytest.raises(InputError, match=r"a\.nii\.gz is missing; run `medwvae restore`"):
        scores_of([chosen], tmp_path)
    nifti.write(tmp_path / "a.nii.gz", np.arange(24, dtype=np.float32).reshape(2, 3, 4), np.eye(4))
    with pytest.raises(InputError, match="is not its truth's"):
        scores_of([chosen], tmp_path)


@pytest.mark.parametrize("task", ["recon", "recon-x8", "ct", "inpaint"])
def test_metrics_that_were_asked_for_are_scored_and_lesions_where_there_are_masks(tmp_path, task):
    shape = (6, 24, 20)
    cases = [case(name, shape, seed) for seed, name in enumerate(("a", "b"))]
    for one in cases:
        nifti.write(tmp_path / f"{one.volume}.nii.gz", one.prepared.to_volume(0.9 * one.prepared.image), np.eye(4))
    lesion = np.zeros((24, 20, 6), np.uint8)  # on the canonical grid, slices last
    lesion[9:13, 8:12, 2:4] = 1
    (tmp_path / "masks").mkdir()
    flipped = nib.Nifti1Image(lesion[::-1], np.array([[-1.0, 0, 0, 23], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    nib.save(flipped, tmp_path / "masks" / "a.nii.gz")  # stored another way round
    options: dict[str, Any] = {"run": "r", "task": task, "setting": "s", "lesions": tmp_path / "masks"}
    options["protocol"] = {"recon": "fastmri", "ct": "sparse-view", "inpaint": "inpainting"}[task_of(task)]
    items = [Restored("input", "input", tmp_path)]
    found = score_volumes(cases, items, regions=REGIONS, metrics=("psnr", "hfen"), **options)
    assert set(found["metric"]) == {"psnr", "hfen", "lesion_contrast"}
    assert set(found[found["region"] == "lesion"]["volume"]) == {"a"}
    row = found.set_index(["volume", "region", "metric"])["value"]
    inside = np.moveaxis(lesion, 2, 0).astype(bool)
    truth = cases[0].prepared.image
    expected = 10 * np.log10(truth.max() ** 2 / np.mean((0.1 * truth[inside]) ** 2))
    assert row["a", "lesion", "psnr"] == pytest.approx(expected, rel=1e-4)
    assert row["a", "lesion", "lesion_contrast"] == pytest.approx(0.9, abs=1e-3)
    nib.save(nib.Nifti1Image(lesion[:, :, :4], np.eye(4)), tmp_path / "masks" / "b.nii.gz")
    with pytest.raises(InputError, match="resample it"):
        score_volumes(cases, items, regions=REGIONS, **options)
    (tmp_path / "masks" / "b.nii.gz").write_bytes(b"no image")
    with pytest.raises(InputError, match="cannot be read"):
        score_volumes(cases, items, regions=REGIONS, **options)


@pytest.mark.parametrize(
    ("task", "protocol"),
    [
        ("recon", "fastmri"),
        ("ct", "sparse-view"),
        ("ct-v30", "ldct-neuro"),
        ("ct", "lodopab"),
        ("inpaint", "inpainting"),
    ],
)
def test_ct_numbers_are_scored_in_hounsfield_units(tmp_path, task, protocol):
    from dataclasses import replace

    from tests.metrics.test_ct_and_lesions import skull

    hounsfield, head = skull((4, 48, 48))
    scaling = LinearScaling(-1000.0, 1800.0)
    prepared = Prepared(scaling.apply(hounsfield), head, scaling, 2, np.eye(4))
    one = replace(case("a"), contrast="ct", prepared=prepared)
    nifti.write(tmp_path / "a.nii.gz", prepared.to_volume(prepared.image) + np.float32(5.0), np.eye(4))
    options: dict[str, Any] = {"run": "r", "task": task, "setting": "s", "regions": ("head",)}
    options |= {"metrics": ("psnr", "ct"), "protocol": protocol}
    found = score_volumes([one], [Restored("input", "input", tmp_path)], **options)
    assert set(found["metric"]) >= {"hu_bias_soft", "hu_noise_soft", "hu_bias_bone", "psnr"}
    assert set(found["protocol"]) == {protocol}
    values = found.set_index("metric")["value"]
    assert values["hu_bias_soft"] == pytest.approx(5, abs=1e-2) and values["hu_noise_bone"] < 0.01
    assert set(found[found["metric"].str.startswith("hu_")]["unit"]) == {"HU"}
    flat = replace(one, contrast="t1w")
    if protocol == "ldct-neuro":
        with pytest.raises(InputError, match=r"ldct-neuro .* a is no CT"):
            score_volumes([flat], [Restored("input", "input", tmp_path)], **options)
    else:
        assert set(score_volumes([flat], [Restored("input", "input", tmp_path)], **options)["metric"]) == {"psnr"}
