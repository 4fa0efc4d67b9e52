"""Batches drawn ahead are those drawn one by one; how busy a card is."""

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medwvae import checkpoint, load, train
from medwvae.supply import Supply
from tests.test_train import CPU, StoppedError, assert_same, denoiser, plain, run, stop_after


def supply(workers, state=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    if state is not None:
        generator.set_state(state)
    return Supply(lambda own: torch.rand(3, generator=own), generator, CPU, workers)


@given(st.integers(0, 5), st.integers(1, 5), st.integers(0, 2**31), st.integers(0, 3))
def test_what_is_drawn_ahead_is_drawn_again_after_a_kill(taken, more, seed, workers):
    whole = supply(0, seed=seed)
    expected = [whole.batch() for _ in range(taken + more)]
    first = supply(workers, seed=seed)
    found = [first.batch() for _ in range(taken)]
    second = supply(workers, first.state())
    found += [second.batch() for _ in range(more)]
    assert all(map(torch.equal, found, expected))
    assert torch.equal(second.state(), whole.state())


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_of_drawing_is_raised_where_the_batch_is_asked_for(workers):
    whole = supply(0)
    _, second = whole.batch(), whole.batch()

    def draw(generator):
        drawn = torch.rand(3, generator=generator)
        if torch.equal(drawn, second):
            raise ValueError("broken file")
        return drawn

    found = Supply(draw, torch.Generator().manual_seed(0), CPU, workers)
    found.batch()
    with pytest.raises(ValueError, match="broken file"):
        found.batch()


def test_a_training_that_draws_ahead_resumes_to_the_bit(tmp_path, monkeypatch):
    expected, progress, _ = run(tmp_path / "whole", denoiser)
    monkeypatch.setattr(train, "Supply", functools.partial(Supply, workers=3))
    with pytest.raises(StoppedError):
        run(tmp_path / "parts", denoiser, report=stop_after(7))
    weights, resumed, _ = run(tmp_path / "parts", denoiser)
    assert_same(weights, expected)
    assert plain(resumed) == plain(progress)
    random = [checkpoint.load(tmp_path / name / "last.ckpt")["random"] for name in ("whole", "parts")]
    assert_same(*random)


def test_deterministic_algorithms_are_asked_for(tmp_path, monkeypatch):
    asked: list[bool] = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", asked.append)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    run(tmp_path / "usual", steps=1)
    assert not asked
    run(tmp_path / "deterministic", steps=1, deterministic=True)
    assert asked == [True]


def test_how_busy_a_card_is(monkeypatch):
    assert load.Load(CPU).figures() == {}
    answers = iter((90, 95))
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: next(answers))
    card = load.Load(torch.device("cuda"))
    assert card.figures() == card.figures() == {"card_busy_percent": 90.0}  # once a second

    def missing(device):
        raise ModuleNotFoundError("pynvml")

    monkeypatch.setattr(torch.cuda, "utilization", missing)
    assert load.Load(torch.device("cuda")).figures() == {}
