"""2,000 mutants in a minute; by hand, `python -m tests.fuzz --runs 100000 --seed N` reads as many as wanted."""

import gc
import time
from collections import Counter

import numpy as np
import pytest

from medwvae.errors import Refusal
from tests.fuzz import judge
from tests.fuzz.campaign import campaign
from tests.fuzz.judge import MEMORY, SECONDS, Fault, measured
from tests.fuzz.mutants import draw
from tests.fuzz.seeds import SECRET, dicom_seeds

SEED, RUNS = 20261121, 2000


@pytest.mark.slow
def test_every_mutant_is_an_image_or_refused():
    outcomes = list(campaign(SEED, RUNS))
    assert [outcome.index for outcome in outcomes] == list(range(RUNS))
    failed = [outcome for outcome in outcomes if not outcome.good]
    told = "\n".join(f"{o.verdict} #{o.index} {o.name}\n{o.detail[-600:]}" for o in failed[:5])
    assert not failed, f"{len(failed)} mutants, for example\n{told}"
    assert max(outcome.memory for outcome in outcomes) < MEMORY
    assert sum(outcome.seconds for outcome in outcomes) < 60  # of processor time; it takes about 10
    # The mutants get beyond the door: enough of them are read, and refused for many reasons.
    verdicts = Counter((outcome.kind, outcome.verdict) for outcome in outcomes)
    assert min(verdicts[kind, verdict] for kind in ("dicom", "nifti") for verdict in ("ok", "refused")) > 40
    assert len({outcome.detail[:40] for outcome in outcomes if outcome.verdict == "refused"}) > 25


def test_the_same_number_is_the_same_mutant():
    for index in (0, 7, 49):
        one, other = draw(3, index), draw(3, index)
        assert one == other
        assert draw(4, index).files != one.files
    untouched = {seed.name: seed.files for seed in dicom_seeds()}
    changed = [draw(3, index) for index in range(40)]
    assert sum(mutant.files != untouched.get(mutant.name.partition(":")[0]) for mutant in changed) > 35


def raises(error):
    def reader():
        raise error

    return reader


def spend():
    end = time.process_time() + SECONDS + 0.1
    while time.process_time() < end:
        pass


def out_of_memory():
    try:
        raise MemoryError
    except MemoryError as error:
        raise Refusal("the file is damaged") from error


@pytest.mark.parametrize(
    ("reader", "verdict"),
    [
        (lambda: None, "ok"),
        (raises(Refusal("the file is damaged")), "refused"),
        (raises(Refusal(f"the file of {SECRET} is damaged")), "leak"),
        (raises(ValueError("not ours")), "raised"),
        (raises(RecursionError()), "raised"),
        (raises(Fault("litter: a file")), "litter"),
        (out_of_memory, "memory"),
        (lambda: np.ones(256 << 20, np.uint8), "memory"),
        (spend, "slow"),
    ],
)
def test_the_judge_sees_every_fault(reader, verdict, monkeypatch):
    gc.collect()  # else what earlier tests left may go while the reader runs, and hide what it takes
    judge.forget_peak()
    monkeypatch.setattr(judge, "MEMORY", judge.peak() + (64 << 20))
    assert measured(reader)[0] == verdict
