import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.latents.holes import block, block_within, missing_slices, scattered
from medwvae.latents.impute import impute, impute_by_gradient, mean_filled
from tests.latents.models import Waves, images

MODEL = Waves(sigma=0.1)
SHAPE = (12, 10)
X = images(MODEL, 3, SHAPE)
KNOWN = block(SHAPE, (6, 5), 5)
HOLE = ~KNOWN.expand(X.shape)


def test_the_chain_finds_the_conditional_mean_and_spread():
    found = impute(MODEL, X, KNOWN, sweeps=2000, discard=200)
    assert found.deviation is not None
    for k in range(len(X)):
        _, mean, spread = MODEL.conditional(X[[k]], KNOWN)
        hole = HOLE[[k]]
        torch.testing.assert_close(found.image[[k]][hole], mean[hole].float(), atol=0.03, rtol=0)
        torch.testing.assert_close(found.deviation[[k]][hole], spread[hole].float(), atol=0.02, rtol=0.1)


def test_the_gradient_finds_the_conditional_mean():
    # Of a Gaussian the latent of largest density is its mean.
    found = impute_by_gradient(MODEL, X, KNOWN, steps=100)
    for k in range(len(X)):
        _, mean, _ = MODEL.conditional(X[[k]], KNOWN)
        torch.testing.assert_close(found.image[[k]][HOLE[[k]]], mean[HOLE[[k]]].float(), atol=2e-3, rtol=0)
    assert found.deviation is None
    assert all(parameter.grad is None for parameter in MODEL.parameters())


def test_what_cannot_be_told_from_missing_pixels_does_not_matter():
    wild = torch.where(HOLE, torch.nan, X)
    torch.testing.assert_close(impute(MODEL, wild, KNOWN).image, impute(MODEL, X, KNOWN).image)
    torch.testing.assert_close(impute_by_gradient(MODEL, wild, KNOWN).image, impute_by_gradient(MODEL, X, KNOWN).image)


def test_the_hole_is_filled_better_than_by_the_mean():
    rough = (mean_filled(X, KNOWN) - X)[HOLE].square().mean()
    for found in (impute(MODEL, X, KNOWN), impute_by_gradient(MODEL, X, KNOWN)):
        assert (found.image - X)[HOLE].square().mean() < 0.7 * rough


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 0.95))
def test_known_pixels_keep_their_bits(seed, share):
    generator = torch.Generator().manual_seed(seed)
    known = torch.rand(3, 1, *SHAPE, generator=generator) < share
    known[..., 0, 0] = True
    for found in (impute(MODEL, X, known, sweeps=3, discard=1), impute_by_gradient(MODEL, X, known, steps=3)):
        assert torch.equal(found.image[known], X[known])
        assert torch.isfinite(found.image).all()
        if found.deviation is not None:
            assert not found.deviation[known].any()
            assert (found.deviation[~known] > 0).all()


def test_nothing_missing_is_the_identity():
    everything = torch.ones(SHAPE, dtype=torch.bool)
    for found in (impute(MODEL, X, everything), impute_by_gradient(MODEL, X, everything)):
        assert torch.equal(found.image, X)


def test_an_exact_posterior_is_never_refused_and_a_wrong_one_is():
    exact = impute(MODEL, X, KNOWN, sweeps=30, discard=10, metropolis=True)
    assert exact.accepted > 0.99

    class Blurred(Waves):
        """Encodes with too wide a posterior."""

        def encode(self, x, label=None):
            posterior = super().encode(x, label)
            return type(posterior)(posterior.mean, tuple(1.5 * scale for scale in posterior.scale))

    plain, tested = (
        impute(Blurred(sigma=0.1), X[:1], KNOWN, sweeps=2000, discard=200, metropolis=metropolis)
        for metropolis in (False, True)
    )
    assert tested.accepted < 0.5
    assert plain.deviation is not None
    assert tested.deviation is not None
    _, mean, spread = MODEL.conditional(X[:1], KNOWN)
    torch.testing.assert_close(tested.image[HOLE[:1]], mean[HOLE[:1]].float(), atol=0.03, rtol=0)
    errors = [(found.deviation - spread)[HOLE[:1]].abs().max() for found in (plain, tested)]
    assert errors[1] < 0.5 * errors[0]


def test_the_chain_may_start_from_another_answer():
    # Its missing pixels alone are read; a long chain forgets them.
    start = torch.where(HOLE, impute_by_gradient(MODEL, X, KNOWN).image, torch.nan)
    first = impute(MODEL, X, KNOWN, sweeps=1, discard=0, start=start)
    assert (first.image - start)[HOLE].abs().mean() < (mean_filled(X, KNOWN) - start)[HOLE].abs().mean()
    long = [impute(MODEL, X, KNOWN, sweeps=400, discard=100, start=one).image for one in (start, None)]
    torch.testing.assert_close(*long, atol=0.06, rtol=0)


def test_an_image_does_not_depend_on_its_batch():
    alone, together = impute(MODEL, X[:1], KNOWN, sweeps=9, discard=3), impute(MODEL, X, KNOWN, sweeps=9, discard=3)
    torch.testing.assert_close(alone.image, together.image[:1])


def test_a_bernoulli_model_is_filled_by_gradient_too():
    model = Waves(likelihood="bernoulli")
    x = X.clamp(0.01, 0.99)
    found = impute_by_gradient(model, x, KNOWN)
    assert torch.equal(found.image[~HOLE], x[~HOLE])
    z = model.encode(found.image).mean
    assert torch.isfinite(model.log_prior(z)).all()


def test_a_model_without_a_density_has_a_chain_only():
    model = Waves(sigma=0.1)
    model.has_density = False
    found = impute(model, X, KNOWN)
    assert torch.equal(found.image[~HOLE], X[~HOLE])
    with pytest.raises(ValueError, match="no density"):
        impute_by_gradient(model, X, KNOWN)
    with pytest.raises(ValueError, match="no density"):
        impute(model, X, KNOWN, metropolis=True)


def test_missing_slices_of_a_volume_come_back():
    model = Waves(sigma=0.02, dims=3)
    volume = images(model, 1, (8, 7, 6))
    known = missing_slices((8, 7, 6), [3, 4])
    found = impute(model, volume, known)
    hole = ~known.expand(volume.shape)
    assert (found.image - volume)[hole].square().mean() < 0.2 * (mean_filled(volume, known) - volume)[
        hole
    ].square().mean()


@pytest.mark.parametrize(
    ("known", "options", "words"),
    [
        (KNOWN.float(), {}, "bool"),
        (KNOWN[1:], {}, "does not fit"),
        (torch.zeros(SHAPE, dtype=torch.bool), {}, "no known pixel"),
        (KNOWN, {"sweeps": 5, "discard": 5}, "sweeps"),
    ],
)
def test_what_cannot_be_filled_in_is_refused(known, options, words):
    with pytest.raises(ValueError, match=words):
        impute(MODEL, X, known, **options)
    with pytest.raises(ValueError, match="not finite"):
        impute(MODEL, X / 0, KNOWN)


def test_holes_lie_where_they_should():
    assert int((~block((9, 8, 7), (4, 4, 3), 3)).sum()) == 27
    assert (~missing_slices((4, 3, 2), [0, 2], axis=1)).nonzero()[:, 1].unique().tolist() == [0, 2]
    for shape, centre, size, words in (
        ((9, 9), (1, 4), 4, "within"),
        ((9, 9), (4,), 3, "within"),
        ((3, 3), (1, 1), 3, "fills"),
    ):
        with pytest.raises(ValueError, match=words):
            block(shape, centre, size)
    for volume, indices, words in (((9, 9), [1], "3D model"), ((9, 9, 3), [3], "0 to 2"), ((9, 9, 2), [0, 1], "every")):
        with pytest.raises(ValueError, match=words):
            missing_slices(volume, indices)


@given(st.integers(1, 7), st.integers(0, 99))
def test_a_block_has_its_centre_where_it_may(size, seed):
    places = np.zeros((9, 11), bool)
    places[2:7, 4:6] = True
    hole = ~block_within(places, size, seed)
    assert int(hole.sum()) == size**2 and bool(hole[torch.from_numpy(places)].any())
    assert torch.equal(hole, ~block_within(places, size, seed))


def test_a_block_that_fits_nowhere():
    with pytest.raises(ValueError, match="does not fit"):
        block_within(np.eye(3, dtype=bool), 4, 0)


@given(st.floats(0, 0.9), st.integers(0, 99))
def test_scattered_voxels_are_as_many_as_asked_for(share, seed):
    known = scattered((6, 5), share, seed)
    assert int((~known).sum()) == round(30 * share)
    assert torch.equal(known, scattered((6, 5), share, seed))


def test_some_voxel_has_to_be_left():
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match="cannot be missing"):
            scattered((6, 5), share, 0)
