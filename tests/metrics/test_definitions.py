"""Every number that can stand in a table has its definition."""

from pathlib import Path

import numpy as np
import pytest

from medwvae.metrics.coverage import interval_metrics
from medwvae.metrics.definitions import DEFINITIONS, definition
from medwvae.names import INTERVAL_LEVELS, METRICS, Region
from medwvae.protocols import PROTOCOLS, Score
from medwvae.scores import ct_scores, scores_of
from tests.cases import head_like
from tests.metrics.test_ct_and_lesions import skull


def every_score():
    image, head = head_like((6, 40, 44))
    x = image + 0.05 * np.random.default_rng(0).standard_normal(image.shape).astype(np.float32)
    lesion = np.zeros(head.shape, bool)
    lesion[2:4, 18:22, 18:23] = True
    found = scores_of(
        PROTOCOLS["ixi-td"], x, image, head, metrics=METRICS, regions=("head", "whole", "lesion"), lesion=lesion
    )
    ref, inside = skull()
    noisy = ref + np.random.default_rng(1).normal(0, 9, ref.shape)
    rng, factors = np.random.default_rng(2), {level: 2 * level for level in INTERVAL_LEVELS}
    spread = rng.random(image.shape).astype(np.float32)
    intervals = interval_metrics(x, image, spread, mask=head, factors=factors)
    found += [Score("head", name, value, definition(name).unit) for name, value in intervals.items()]
    return found, ct_scores(noisy, ref, inside, (0.5, 0.5))


def test_every_score_is_defined_and_every_definition_is_scored():
    found, ct = every_score()
    names = {one.metric for one in found + ct}
    assert names == set(DEFINITIONS)
    assert all(one.unit == definition(one.metric).unit and np.isfinite(one.value) for one in found + ct)
    assert {one.region for one in found} == {"head", "whole", "lesion"}
    assert len({(one.region, one.metric) for one in found}) == len(found)
    for one in DEFINITIONS.values():
        assert one.text.endswith(".") and one.range and one.mask and one.label


def test_what_was_not_asked_for_is_not_scored():
    image, head = head_like((4, 24, 20))
    only: tuple[Region] = ("head",)
    found = scores_of(PROTOCOLS["fastmri"], image * 0.9, image, head, metrics=("psnr", "hfen"), regions=only)
    assert [(one.region, one.metric) for one in found] == [("head", "psnr"), ("head", "hfen")]
    blank = np.zeros(head.shape, bool)
    lesions: tuple[Region] = ("lesion",)
    assert scores_of(PROTOCOLS["fastmri"], image, image, head, metrics=METRICS, regions=lesions, lesion=blank) == []


def test_loss_is_less_for_the_better_value():
    assert definition("psnr").loss(30) < definition("psnr").loss(29)
    assert definition("nmse").loss(0.1) < definition("nmse").loss(0.2)
    sharp = definition("edge_sharpness")
    assert sharp.loss(1.1) == pytest.approx(sharp.loss(0.9)) and sharp.direction == "1 is best"
    assert definition("mine").better == "higher" and definition("nps_mean_soft").direction == ""


def test_the_guide_knows_every_metric():
    guide = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for name, one in DEFINITIONS.items():
        if not name.startswith("subband_"):
            assert f"`{name}`" in guide and one.text.replace("|", "\\|") in guide
    assert "`subband_aa3` ... `subband_dd1`" in guide
