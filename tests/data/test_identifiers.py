"""What repeats somebody's name or number, and what only looks like it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from medwvae.data.deidentify import Cleaner
from medwvae.data.identifiers import Identifiers, identifiers_of

ORDINARY = (
    *("slice", "SLICE_THK", "Linear", "spoiled", "flip", "scan", "SCAN_OPTIONS", "anterior", "ANGIO", "Spectral"),
    *("brilliant", "*tfl3d1", "fl3d_vibe", "tse2d1_9", "epfid2d1_64", "*se2d1", "PFP", "SAT1", "Br40d", "STANDARD"),
    *("HEAD FILTER", "syngo MR E11", "R5.7.1", "unknown", "MEDIUM", "transaxial"),
)


def of(name="", number=""):
    dataset = Dataset()
    dataset.PatientName, dataset.PatientID = name, number
    return identifiers_of(dataset)


@pytest.mark.parametrize("text", ["wong", "wong_se", "WONG_SE", "se_Wong", "wong2", "t1wong", "headWong", "t1-wong!"])
def test_a_short_word_ends_at_everything_but_a_letter(text):
    assert Identifiers(frozenset({"wong"})).in_text(text)


def test_a_short_word_within_another_is_none():
    wong = Identifiers(frozenset({"wong"}))
    assert not wong.in_text("swong")
    assert not wong.in_text("wonga")
    number = Identifiers(frozenset({"4711"}))
    assert number.in_text("no4711x_")
    assert not number.in_text("14711")
    assert not number.in_text("47110")


@pytest.mark.parametrize(
    "text", ["LiZQX", "zqxli", "ZQX_Li", "li-zqx", "LI ZQX", "zqx^li", "se_LiZqx2", "fLi", "li", "lizqxseq"]
)
def test_the_parts_of_a_short_name_are_found_in_any_order_with_any_separator(text):
    assert of("Li^Zqx").in_text(text)


@given(
    parts=st.lists(st.text("bcdgkpqvwz", min_size=2, max_size=6), min_size=2, max_size=4, unique=True),
    data=st.data(),
    mark=st.sampled_from(["", "_", "-", " ", ".", "^", "0"]),
)
def test_a_text_of_nothing_but_the_parts_of_a_name_is_found(parts, data, mark):
    order = data.draw(st.permutations(parts))
    text = mark.join(order[: data.draw(st.integers(2, len(order)))])
    known = of("^".join([parts[0], " ".join(parts[1:])]))
    assert known.in_text(text.upper())
    assert known.in_text(text.title())


@pytest.mark.parametrize("name", ["Li^An", "An^Li", "Fi^Hu", "Ra^Sca", "Tom^Lin", "Yu^Li^An", "Ax^Ed", "Ng^Ti"])
def test_ordinary_words_survive_a_short_name(name):
    known = of(name)
    assert [word for word in ORDINARY if known.in_text(word)] == []


@pytest.mark.parametrize(
    ("keyword", "value", "number", "found"),
    [
        ("SeriesNumber", "474747", "474747", True),
        ("SeriesNumber", "4711", "4711", True),
        ("SeriesNumber", "4711", "0004711", True),
        ("InstanceNumber", "-4711", "4711", True),
        ("NumberOfAverages", "4711.0", "4711", True),
        ("SeriesNumber", "301", "301", False),  # a short ID is met by chance
        ("SeriesNumber", "4712", "4711", False),
        ("RepetitionTime", "2000", "2000", False),
        ("RepetitionTime", "12345", "12345", False),
        ("TriggerTime", "474747", "474747", True),
        ("TriggerTime", ["1", "474747"], "474747", True),
        ("TriggerTime", "474747.5", "474747", False),
        ("Rows", 123456, "123456", False),
        ("TriggerTime", None, "474747", False),
    ],
)
def test_numbers_of_the_patient(keyword, value, number, found):
    assert of(number=number).in_number(keyword, value) == found


def test_numbers_of_the_patient_are_emptied_where_they_are_no_measured_value():
    dataset = Dataset()
    dataset.file_meta = Dataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", "1.2.3"
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Li^Zqx", "474747", "19510203"
    dataset.SeriesNumber = dataset.InstanceNumber = dataset.NumberOfAverages = dataset.TriggerTime = "474747"
    dataset.EchoNumbers, dataset.AcquisitionNumber = [1, 474747], "19510203"
    dataset.RepetitionTime, dataset.EchoTime, dataset.FlipAngle = "2000", "4.7", "47"
    dataset.SequenceName = "LiZQX"
    cleaner = Cleaner(b"k" * 32, "sub-x", None)
    cleaner.clean(dataset)
    emptied = ("SeriesNumber", "InstanceNumber", "NumberOfAverages", "TriggerTime", "EchoNumbers", "AcquisitionNumber")
    for keyword in emptied:
        assert keyword in dataset
        assert not dataset[keyword].value
    assert sum(n for what, n in cleaner.counts.items() if what[3].startswith("emptied (repeats")) == len(emptied)
    assert (dataset.RepetitionTime, dataset.EchoTime, dataset.FlipAngle) == (2000, 4.7, 47)
    assert dataset.SequenceName == "REMOVED"
