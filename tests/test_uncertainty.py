"""From validation subjects to maps of intervals beside the results, and to their scores."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch

from medwvae import paths, restore, stages
from medwvae.config import Config
from medwvae.data import nifti
from medwvae.degradation import Denoise, Inpaint, Recon, SparseView, Superres
from medwvae.errors import InputError
from medwvae.evaluate import Restored, by_subject, score_volumes
from medwvae.metrics.definitions import OF_INTERVALS
from medwvae.names import INTERVAL_LEVELS
from medwvae.operators import Measurement, to_kspace
from medwvae.statistics import Calibration
from medwvae.unsupported import unsupported_detail
from medwvae.wavelets import dwt
from tests.cases import case
from tests.test_restoration_tasks import study as trained_study

DEGRADE = Denoise(0.08, "gaussian")
SHAPE = (12, 24, 20)


def honest(measurement, seed):
    """Answer with the noisy image: its error has a known law, half as strong as is said."""
    return measurement.start, torch.full_like(measurement.start, 2 * float(measurement.sigma.flatten()[0]))


def study(tmp_path, level=0.9, **more):
    known = [case(f"v{k}", SHAPE, seed=k) for k in range(4)]
    tested = [case(f"t{k}", SHAPE, seed=9 + k, axis=k) for k in range(3)]
    acquire = restore.Acquisition(DEGRADE, 1, "denoise")
    calibration = restore.calibrated(known, honest, acquire, level=level)
    record = restore.restore_cases(
        tested, lambda m: honest(m, 0)[0], acquire, folder=tmp_path, record=restore.Record("ours"),
        spread=honest, calibration=calibration, **more,
    )  # fmt: skip
    return tested, calibration, record


def test_calibrated_intervals_hold_their_level_on_other_subjects(tmp_path):
    tested, calibration, _ = study(tmp_path)
    assert calibration.factors[0.9] == pytest.approx(1.645 / 2, rel=0.08)
    table = score_volumes(
        tested, [Restored("wavelet_vae", "ours", tmp_path, calibration)],
        run="r", task="denoise", setting="s", regions=("head",), protocol="brainweb-rician",
    )  # fmt: skip
    values = by_subject(table).groupby("metric")["value"].mean()
    for level in calibration.factors:
        assert values[f"coverage_{100 * level:g}"] == pytest.approx(level, abs=0.03)
    # A constant width has no rank; all other metrics of intervals are there.
    assert set(values.index) & set(OF_INTERVALS) == set(OF_INTERVALS) - {"width_error_rank"}
    plain = score_volumes(
        tested,
        [Restored("wavelet_vae", "ours", tmp_path)],
        run="r",
        task="denoise",
        setting="s",
        regions=("head",),
        protocol="brainweb-rician",
    )
    pd.testing.assert_frame_equal(
        plain.reset_index(drop=True), table[~table["metric"].isin(OF_INTERVALS)].reset_index(drop=True)
    )


def test_each_volume_is_measured_anew_to_calibrate_on_where_chance_has_a_part(tmp_path):
    seen: list[torch.Tensor] = []

    def watched(measurement, seed):
        seen.append(measurement.start)
        return measurement.start, torch.full_like(measurement.start, 0.1)

    known = [case(f"v{k}", SHAPE, seed=k) for k in range(2)]
    for degrade, count in ((DEGRADE, 3), (Recon(4.0, 0.1, "random", 1.0), 3), (SparseView(9), 1), (Superres(2), 1)):
        seen.clear()
        acquire = restore.Acquisition(degrade, 1, "denoise")
        more = restore.calibrated(known, watched, acquire, level=0.9, measurements=3)
        assert len(seen) == 2 * count and more.subjects == 2
        assert all(not torch.equal(a, b) for a, b in itertools.pairwise(seen))
        # What is scored is the first measurement: it stays the same, and those beside it are others.
        first = [acquire(one).measurement.start for one in known]
        assert all(torch.equal(own, found) for own, found in zip(first, seen[::count], strict=True))
        once = restore.calibrated(known, watched, acquire, level=0.9)
        assert (once == more) == (count == 1)


def test_maps_lie_beside_the_results_in_their_units(tmp_path):
    tested, calibration, _ = study(tmp_path, level=0.8)
    one = tested[0]
    half, affine = nifti.read(paths.uncertainty(tmp_path, one.volume), flat=True)
    np.testing.assert_allclose(affine, one.prepared.affine)
    expected = 2 * 0.08 * one.prepared.maximum * calibration.factor * one.prepared.scaling.factor
    np.testing.assert_allclose(half, expected, rtol=1e-5)
    np.testing.assert_allclose(one.prepared.widths_to_slices(half), expected / one.prepared.scaling.factor, rtol=1e-5)
    assert not list(tmp_path.glob("*_unsupported*"))
    paths.uncertainty(tmp_path, one.volume).unlink()
    with pytest.raises(InputError, match=r"_uncertainty\.nii\.gz is missing"):
        score_volumes(
            tested, [Restored("w", "ours", tmp_path, calibration)], run="r", task="denoise", setting="s",
            regions=("head",), protocol="brainweb-rician",
        )  # fmt: skip


@pytest.mark.parametrize("task", ["denoise", "superres"])
def test_from_training_to_scores(tmp_path, task):
    plain = trained_study(tmp_path, task, {"crop": [24, 16]}).model_dump(mode="json")
    plain["restore"] |= {"uncertainty": {"level": 0.8, "draws": 2}, "unsupported": True}
    config = Config.model_validate(plain)
    for network in config.networks.enabled:
        stages.train(config, task, network, 1)
    methods = stages.methods_of(config, task)
    for method in methods:
        stages.restore(config, task, method, 1)
        known = json.loads(paths.record(config.root, task, method).read_text())["details"]
        assert ("uncertainty" in known) == (method == "wavelet_vae")
        folder = paths.restored(config.root, task, method)
        assert paths.uncertainty(folder, "c").is_file() == (method == "wavelet_vae")
        assert paths.unsupported(folder, "c").is_file() == (task == "superres")
    stages.evaluate(config, task, 1)
    scores = pd.read_csv(paths.scores(config.root, task))
    intervals = scores[scores["metric"].isin(OF_INTERVALS)]
    assert set(intervals["method"]) == {"wavelet_vae"}
    assert set(intervals["metric"]) == set(OF_INTERVALS)
    # Calibration and test images are of one kind: a share of a level is covered, and more of a higher one.
    covered = [intervals.set_index("metric")["value"][f"coverage_{100 * level:g}"] for level in INTERVAL_LEVELS]
    assert covered == sorted(covered)
    assert covered[INTERVAL_LEVELS.index(0.8)] == pytest.approx(0.8, abs=0.15)


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        study(tmp_path / name)
    for path in sorted((tmp_path / "one").glob("*.nii.gz")):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_a_record_holds_the_calibration(tmp_path):
    _, calibration, record = study(tmp_path)
    record.details["uncertainty"] = calibration.to_dict()
    restore.write_record(tmp_path / "record.json", record)
    known = json.loads((tmp_path / "record.json").read_text())["details"]["uncertainty"]
    assert Calibration.from_dict(known) == calibration


# --- detail without support ------------------------------------------------------------------------------------------


def halved(shape=(3, 1, 32, 28)):
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    return Superres(2)(image, torch.ones(1), torch.Generator().manual_seed(0), None).measurement


def test_what_was_measured_is_supported():
    measurement = halved()
    found = unsupported_detail(measurement, measurement.start)
    assert found is not None and float(found.max()) < 1e-5


@pytest.mark.parametrize("degrade", [Recon(3, 0.15, "random", 0.5), SparseView(12)], ids=["recon", "ct"])
def test_a_magnitude_and_a_sinogram_have_a_map_as_well(degrade):
    one = case(shape=(3, 24, 20))
    measurement = degrade(one.slices(), one.maximum(), torch.Generator().manual_seed(0), None).measurement
    found = unsupported_detail(measurement, one.slices())
    assert found is not None and found.shape == one.slices().shape
    assert found.isfinite().all() and 1e-3 < float(found.mean()) < 0.5


def test_of_ct_too_what_was_measured_is_supported():
    # An image in the row space of A is seen as a whole; a few steps of conjugate gradients would not tell.
    measurement = SparseView(12)(
        torch.zeros(1, 1, 32, 32), torch.ones(1), torch.Generator().manual_seed(0), None
    ).measurement
    assert measurement.operator is not None and measurement.data is not None
    rays = torch.randn(measurement.data.shape, generator=torch.Generator().manual_seed(1))
    seen = measurement.operator.adjoint(rays)
    found = unsupported_detail(measurement, seen)
    details = torch.cat([d.flatten() for d in dwt(seen, 3).details])
    assert found is not None and float(found.norm()) < 0.02 * float(details.norm())


def test_invented_detail_shows_where_it_is_and_with_its_energy():
    measurement = halved()
    invented = torch.zeros_like(measurement.start)
    invented[1, :, 8:16, 8:16] = 0.5 * (-1.0) ** torch.arange(8)  # the highest frequency: outside the centre
    unseen = invented - measurement.operator.adjoint(measurement.operator.forward(invented))
    found = unsupported_detail(measurement, measurement.start + invented)
    assert found is not None
    details = sum(float(d.square().sum()) for d in dwt(unseen, 3).details)
    assert float(found.square().sum()) == pytest.approx(details, rel=1e-4)
    assert found[1, 0, 8:16, 8:16].mean() > 5 * found[1, 0, 20:, 20:].mean()
    assert float(found[0].max()) < 1e-5
    kspace = to_kspace(unseen)
    assert float(kspace[measurement.mask.expand_as(kspace)].abs().max()) < 1e-5


def test_lost_pixels_alone_are_unsupported_and_noise_hides_nothing(tmp_path):
    image = torch.rand(2, 1, 32, 24, generator=torch.Generator().manual_seed(0))
    measurement = Inpaint()(image, torch.ones(1), torch.Generator().manual_seed(0), None).measurement
    found = unsupported_detail(measurement, image)
    assert measurement.mask is not None
    blocks = torch.nn.functional.max_pool2d((~measurement.mask).float(), 8).repeat_interleave(8, 2)
    reached = blocks.repeat_interleave(8, 3).bool().expand_as(image)
    assert found is not None and not found[~reached].any() and found[reached].any()
    assert unsupported_detail(Measurement(image), image) is None
    one = case("v", shape=(9, 24, 24))
    restore.restore_cases(
        [one], lambda m: 1 - 0.5 * m.start, restore.Acquisition(Inpaint(), 1, "inpaint"), folder=tmp_path,
        record=restore.Record("input"), unsupported=True,
    )  # fmt: skip
    assert nifti.read(paths.unsupported(tmp_path, "v"))[0].shape == nifti.read(paths.volume(tmp_path, "v"))[0].shape
