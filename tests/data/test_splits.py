import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medwvae.data import splits
from medwvae.errors import InputError
from medwvae.names import PARTS

names = st.lists(st.text("abcdef0123456789", min_size=1, max_size=6), min_size=3, max_size=60, unique=True)
shares = st.tuples(*[st.floats(0.01, 1)] * 3).map(lambda xs: tuple(x / sum(xs) for x in xs))


def sizes(assigned):
    return tuple(list(assigned.values()).count(part) for part in PARTS)


@settings(deadline=None)
@given(names, shares, st.integers(0, 2**62))
def test_a_split_is_a_partition_that_depends_on_the_set_only(subjects, fractions, seed):
    assigned = splits.split(subjects, fractions=fractions, seed=seed)
    assert set(assigned) == set(subjects)
    assert min(sizes(assigned)) >= 1
    assert assigned == splits.split(list(reversed(subjects)) + subjects[:1], fractions=fractions, seed=seed)
    for count, fraction in zip(sizes(assigned), fractions, strict=True):
        assert abs(count - fraction * len(subjects)) < 1 or min(fractions) * len(subjects) < 1


@pytest.mark.parametrize(
    ("count", "fractions", "expected"),
    [
        (40, (0.6, 0.2, 0.2), (24, 8, 8)),
        (4, (0.6, 0.2, 0.2), (2, 1, 1)),
        (3, (0.8, 0.1, 0.1), (1, 1, 1)),
        (10, (1.0, 0.0, 0.0), (8, 1, 1)),
    ],
)
def test_counts(count, fractions, expected):
    assert sizes(splits.split([f"s{k}" for k in range(count)], fractions=fractions, seed=0)) == expected


def test_another_seed_gives_another_split():
    subjects = [f"s{k}" for k in range(40)]
    assert splits.split(subjects, fractions=(0.6, 0.2, 0.2), seed=0) != splits.split(
        subjects, fractions=(0.6, 0.2, 0.2), seed=1
    )


def test_few_move_when_a_subject_comes():
    subjects = [f"s{k}" for k in range(100)]
    before = splits.split(subjects, fractions=(0.6, 0.2, 0.2), seed=0)
    after = splits.split([*subjects, "new"], fractions=(0.6, 0.2, 0.2), seed=0)
    assert sum(before[s] != after[s] for s in subjects) <= 3


@pytest.mark.parametrize(
    ("subjects", "fractions", "message"),
    [
        (["a", "b"], (0.6, 0.2, 0.2), "at least 3 subjects.*there are 2"),
        (["a", "b", "c"], (0.6, 0.2, 0.1), "sum to 1"),
        (["a", "b", "c"], (1.2, -0.2, 0.0), "negative"),
    ],
)
def test_what_cannot_be_split_is_refused(subjects, fractions, message):
    with pytest.raises(InputError, match=message):
        splits.split(subjects, fractions=fractions, seed=0)


def test_files_round_trip(tmp_path):
    assigned = splits.split([f"s{k}" for k in range(9)], fractions=(0.6, 0.2, 0.2), seed=0)
    splits.write(tmp_path / "splits.csv", assigned)
    assert splits.read(tmp_path / "splits.csv") == assigned


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject,part\na,train\na,test\n", "a is in both train and test"),
        ("subject,part\na,training\n", "line 2"),
        ("subject,part\n,train\n", "line 2"),
        ("who,where\na,train\n", "columns"),
    ],
)
def test_a_bad_split_file_is_refused(tmp_path, text, message):
    (tmp_path / "splits.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        splits.read(tmp_path / "splits.csv")
    with pytest.raises(InputError, match="cannot be read"):
        splits.read(tmp_path / "absent.csv")


def test_a_leak_is_found():
    splits.check_disjoint([("a", "train"), ("b", "test"), ("a", "train")])
    with pytest.raises(InputError, match="a is in both"):
        splits.check_disjoint([("a", "train"), ("b", "test"), ("a", "test")])
