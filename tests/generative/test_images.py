import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from medwvae.data.loaders import Case, Mirror, SliceSampler
from medwvae.generative.images import fitted, framed, gathered, unfitted
from tests.cases import case

SIDES = st.integers(1, 12)


@given(SIDES, SIDES, SIDES, SIDES)
def test_a_frame_keeps_the_middle_and_adds_only_zeros(height, width, tall, wide):
    slices = 1 + np.arange(2 * height * width, dtype=np.float32).reshape(2, height, width)
    out = fitted(slices, (tall, wide))
    assert out.shape == (2, tall, wide)
    kept = out[out > 0]
    assert kept.size == 2 * min(height, tall) * min(width, wide)
    assert set(kept) <= set(slices.ravel())
    again = fitted(fitted(slices, (height + tall, width + wide)), (height, width))  # room for all of it, and back
    assert np.array_equal(again, slices)
    assert np.array_equal(unfitted(out, slices), slices)
    changed = unfitted(-out, slices)
    assert np.array_equal(fitted(changed, (tall, wide)), -out) and (changed < 0).sum() == kept.size


def test_a_frame_holds_image_and_head_alike():
    one = case(shape=(9, 24, 20))
    small = framed(one, (16, 28))
    assert small.prepared.image.shape == small.prepared.head.shape == (9, 16, 28)
    assert not small.prepared.image[~small.prepared.head].any()
    assert small.prepared.tissue_slices().tolist()


def test_scored_slices_show_the_head_and_are_spread():
    cases = [framed(one, (24, 20)) for one in (case("a", subject="s"), case("b", subject="s"), case("c"))]
    everything, some = gathered(cases), gathered(cases, 3)
    assert len(some) == 9 and set(some.volumes) == {"a", "b", "c"}
    assert some.subject_of("b") == "s" and some.of("b").tolist() == [3, 4, 5]
    assert len(everything) == sum(len(one.prepared.tissue_slices()) for one in cases)
    assert len(gathered(cases, 1000)) == len(everything)
    assert some.head is not None and some.head.flatten(1).any(1).all()
    assert some.maxima["c"] == cases[2].prepared.maximum
    assert not torch.equal(some.values[0], some.values[2])


def test_training_mirrors_left_to_right_only():
    upright, sagittal = case(axis=2), case(axis=0)
    kinds_of: list[tuple[Case, Mirror, int]] = [
        (upright, "both", 4),
        (upright, "left-right", 2),
        (sagittal, "left-right", 1),
        (upright, "none", 1),
    ]
    for one, mirror, kinds in kinds_of:
        sampler = SliceSampler([one], (24, 20), mirror=mirror)
        images, *_ = sampler.draw(200, torch.Generator().manual_seed(0))
        slices = one.slices()
        seen = set()
        for image in images:
            for axes in ((), (-2,), (-1,), (-2, -1)):
                if any(torch.equal(image.flip(axes) if axes else image, other) for other in slices):
                    seen.add(axes)
                    break
        assert len(seen) == kinds
        assert mirror != "left-right" or seen <= {(), (-2,)}
