import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.fidelity import memorisation as module
from medwvae.fidelity.memorisation import memorisation, nearest, smoothed
from tests.fidelity.cases import blobs, noise


@settings(max_examples=20, deadline=None)
@given(
    counts=st.tuples(st.integers(1, 9), st.integers(1, 12)),
    shape=st.one_of(st.tuples(*[st.integers(1, 8)] * 2), st.tuples(*[st.integers(1, 5)] * 3)),
    channels=st.integers(1, 2),
    chunk=st.integers(1, 400),
    seed=st.integers(0, 2**16),
)
def test_it_finds_what_trying_all_finds_in_chunks_of_any_size(counts, shape, channels, chunk, seed):
    x = noise(counts[0], channels, *shape, seed=seed)
    y = noise(counts[1], channels, *shape, seed=seed + 1)
    every = torch.cdist(smoothed(x).double(), smoothed(y).double(), compute_mode="donot_use_mm_for_euclid_dist")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_CHUNK", chunk)
        for training in (y, y.split(5)):
            found = nearest(x, training)
            torch.testing.assert_close(found.distance, every.min(1).values, rtol=1e-4, atol=1e-6)
            torch.testing.assert_close(
                every.gather(1, found.index[:, None])[:, 0], found.distance, rtol=1e-4, atol=1e-6
            )


def test_copies_have_distance_zero_whatever_their_brightness():
    training = blobs(20)
    found = nearest(training[[7, 3]] + 100, training)
    assert found.index.tolist() == [7, 3]
    assert float(found.distance.max()) < 1e-4
    assert float(nearest(training[[7, 3]], training).distance.max()) == 0


def test_the_distance_is_a_root_mean_square_and_mild_noise_counts_little():
    x = torch.zeros(1, 1, 64, 64)
    step = x.clone()
    step[..., 32:] = 2
    assert float(nearest(step, x).distance) == pytest.approx(1, rel=0.02)
    assert float(nearest(noise(1, 1, 64, 64).float(), x).distance) < 0.35


def test_copies_are_told_from_new_images():
    training, held_out, new = blobs(40), blobs(30, seed=1), blobs(30, seed=2)
    copied = training[:30] + 0.02 * noise(30, 1, 32, 32).float()
    found = memorisation(copied, held_out, training)
    assert found.samples.index.tolist() == list(range(30))
    assert found.copies == 1
    assert float(found.ratio.max()) < 0.2
    fresh = memorisation(new, held_out, list(training.split(7)))
    assert fresh.copies < 0.2
    assert float(fresh.ratio.median()) == pytest.approx(1, abs=0.1)


def test_what_cannot_be_compared_is_refused():
    x = blobs(3)
    with pytest.raises(ValueError, match="no training image"):
        nearest(x, [])
    with pytest.raises(ValueError, match="look up"):
        nearest(x[:0], x)
    with pytest.raises(ValueError, match="training images"):
        nearest(x, blobs(3, 16))
    with pytest.raises(ValueError, match="twice"):
        memorisation(x, x, iter([x]))
    with pytest.raises(ValueError, match="are training images"):
        memorisation(x, x, x)
