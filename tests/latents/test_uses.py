"""What the report shows of a latent in use: each figure made, its numbers those of what was done."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from medwvae.anatomy import middle
from medwvae.latents.examples import Example, examples, for_display, labels_of
from medwvae.latents.uses import Setting, imputed, mapped, smoothed, uses, walked
from medwvae.names import LATENT_USES
from medwvae.nets.wavelet_latent import WaveletLatentVAE
from tests.cases import case
from tests.latents.models import Waves, images
from tests.latents.volumes import SlicesInMemory, VolumesInMemory

SIZE = (24, 16)
TINY: dict[str, Any] = {"objective": "elbo", "widths": (4, 4), "blocks": 1, "prior_width": 4, "prior_blocks": 1}


def of(values, labels=(0, 1, 0)):
    """Test images of three subjects."""
    places = np.ones(values.shape[2:], bool)
    return [Example(f"s{k}", image[None], places, 1.0, labels[k]) for k, image in enumerate(values)]


def wavelet(**options):
    torch.manual_seed(0)
    return WaveletLatentVAE(**TINY | {"rate": 4} | options).eval()


@pytest.fixture(scope="module")
def setting():
    model = Waves()
    return Setting({"waves": model, "wavelet-r4-s1": wavelet()}, of(images(model, 3, SIZE)), seed=3)


def test_every_use_is_made_the_same_again_and_said_in_words(setting):
    once, again = (dict(uses(setting)) for _ in range(2))
    assert tuple(once) == LATENT_USES
    assert {name: use.facts for name, use in once.items()} == {name: use.facts for name, use in again.items()}
    json.dumps({name: use.facts for name, use in once.items()}, allow_nan=False)
    assert len({use.alt for use in once.values()}) == len(LATENT_USES)
    assert all(use.figure.axes for use in once.values())


def test_the_walk_stands_beside_the_rivals(setting):
    facts = walked(setting).facts
    assert facts["subjects"] == ["s0", "s1"] and list(facts["models"]) == ["waves", "wavelet-r4-s1"]
    assert facts["models"]["waves"]["path_ratio"] >= 1


def test_a_walk_keeps_to_one_class_and_needs_two_subjects(setting):
    classes = Setting({"waves": Waves(classes=2)}, setting.examples)
    assert walked(classes).facts["subjects"] == ["s0", "s2"]
    assert walked(Setting(classes.models, setting.examples[1:] + of(setting.examples[1].image))).facts["subjects"]
    alone = walked(Setting(classes.models, setting.examples[:2]))
    assert alone.facts == {"skipped": alone.alt} and "two test subjects of one class, and there are none" in alone.alt
    one = Setting({"waves": Waves()}, setting.examples[:1])
    assert "needs two test subjects, and" in walked(one).alt
    assert tuple(dict(uses(one))) == LATENT_USES  # and nothing stops the others
    with pytest.raises(ValueError, match="none of the model's classes"):
        labels_of(Waves(classes=2), of(torch.zeros(1, 1, *SIZE), labels=(None,)))


@pytest.mark.parametrize("shape", [(96, 80), (48, 64, 56)])
def test_an_edit_changes_nothing_deep_inside(shape):
    noise = torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0))
    facts = smoothed(Setting({"waves": Waves()}, of(noise))).facts
    assert facts["voxels_deep_inside"] >= 8 and facts["changed_deep_inside"] == 0
    assert facts["rms_change_outside"] > 0.1


def test_heatmaps_say_what_the_latent_holds():
    model = wavelet(rate=16)
    facts = mapped(Setting({"w": model}, of(torch.rand(1, 1, *SIZE)))).facts
    assert facts["kept"] == [] and sum(facts["energy"].values()) == pytest.approx(1)
    facts = mapped(Setting({"w": wavelet(rate=1)}, of(torch.rand(1, 1, *SIZE)))).facts
    assert len(facts["kept"]) == len(facts["correlation"]) == 6
    assert all(-1 <= value <= 1 for value in facts["correlation"].values())
    assert mapped(Setting({"w": Waves()}, of(torch.rand(1, 1, *SIZE)))).facts["kept"] == []


def test_a_model_fills_in_what_it_knows_better_than_a_surface(setting):
    facts = imputed(setting).facts
    assert facts["method"] == "map" and facts["fillings"] == ["model", "biharmonic", "mean"]
    for hole in facts["holes"].values():
        assert hole["rmse"]["model"] < hole["rmse"]["mean"]
    assert list(facts["holes"]) == ["block", "pixels"]


def test_photographs_in_colour_and_volumes_are_put_to_use_too():
    colour = Setting({"w": wavelet(channels=3)}, of(torch.rand(2, 3, 24, 24)), slices=False)
    assert tuple(dict(uses(colour))) == LATENT_USES
    shape = (12, 13, 14)
    deep = Setting({"deep": Waves(dims=3)}, of(images(Waves(dims=3), 2, shape)))
    found = dict(uses(deep))
    assert list(found["imputed"].facts["holes"]) == ["block", "slices"]
    assert found["imputed"].facts["fillings"] == ["model", "mean"]


def test_a_model_without_a_density_fills_in_by_the_chain():
    model = wavelet(objective="sparse")
    assert imputed(Setting({"paper": model}, of(torch.rand(1, 1, *SIZE)))).facts["method"] == "chain"


def test_an_example_goes_through_the_middle_of_the_first_volume_of_each_subject():
    cases = [case(name, (9, *SIZE), seed=k, subject=name[0]) for k, name in enumerate(("b1", "a1", "b2"))]
    found = examples(SlicesInMemory(cases, SIZE))
    assert [example.subject for example in found] == ["a", "b"]
    head = cases[0].prepared.head
    shown = middle(head.sum((1, 2)), 2)
    assert head[shown].any() and shown > 9 / 2
    assert torch.equal(found[1].image, cases[0].slices()[shown][None]) and found[1].label == 0
    whole = examples(VolumesInMemory(cases, (*SIZE, 11)))
    assert [example.subject for example in whole] == ["a", "b"]
    assert whole[0].image.shape == (1, 1, *SIZE, 11) and whole[0].places.shape == (*SIZE, 11)


def test_the_middle_of_an_anatomy():
    assert middle(np.ones(11), 0) == 5
    assert middle(np.array([0, 0, 1, 0]), 2) == 2
    assert middle(np.zeros(4), 1) == 3


def test_slices_are_turned_and_photographs_are_not():
    image = np.arange(6.0).reshape(1, 1, 2, 3)
    assert for_display(image, slices=True).tolist() == [[[5, 2], [4, 1], [3, 0]]]
    assert np.array_equal(for_display(image, slices=False), image[:, 0])
