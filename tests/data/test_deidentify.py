"""De-identification: the table, single data sets, whole trees; nothing planted is found in any byte."""

import csv
import json
import os
import shutil
import stat
import sys
import warnings
from collections import Counter
from datetime import date
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from medwvae.data import cleanable, confidentiality, deidentify, deidentify_tree, dicom
from medwvae.data.ingest import ingest
from medwvae.errors import InputError, Refusal
from tests import planted
from tests.data.series import SHARED, image_of, write_series

KEY = bytes(range(32))
TEXT_VRS = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
NEEDED = {"SOPClassUID", "Modality", "SpecificCharacterSet", "PhotometricInterpretation", "ImageType"}


def elements(dataset):
    for element in dataset:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from elements(item)


def fill(dataset, vrs=None):
    """Put an identifier into every element of the standard's dictionary that can hold text, a date or bytes."""
    texts = {"PN": planted.NAME, "DA": planted.BIRTH, "DT": planted.BIRTH + "101112.5+0200", "TM": "101112"}
    texts |= {"AS": "036Y", "UI": planted.UID, "AE": "OTTOKAR", "CS": "OTTOKAR", "SH": planted.NUMBER}
    for tag, (vr, *_, keyword) in DicomDictionary.items():
        group = tag >> 16
        if group < 8 or tag & 0xFFFF == 0 or group in (0x7FE0, 0xFFFE, 0x0028) or keyword in NEEDED or tag in dataset:
            continue
        if vr in TEXT_VRS or vr in texts:
            dataset.add_new(tag, vr, texts.get(vr, f"of {planted.NAME} {planted.ADDRESS} {planted.NUMBER}"[:64]))
        elif vr in ("OB", "OW", "UN"):
            dataset.add_new(tag, vr, planted.NAME.encode() + planted.NUMBER.encode() + b"\0")


def identified(dataset, k=0):
    """Plant identifiers in standard, private and nested elements, and in what surrounds the data set."""
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID, dataset.AccessionNumber = planted.NAME, planted.NUMBER, planted.ACCESSION
    dataset.PatientBirthDate, dataset.PatientAddress = planted.BIRTH, planted.ADDRESS
    dataset.StudyDate = dataset.SeriesDate = planted.STUDY
    dataset.ReferringPhysicianName, dataset.InstitutionName = planted.PHYSICIAN, planted.HOSPITAL
    dataset.OtherPatientNames = planted.UMLAUT
    dataset.StudyInstanceUID = planted.UID
    dataset.ManufacturerModelName = f"Prisma {planted.NAME.split('^')[0]}"  # kept by the table, but it repeats a name
    dataset.SoftwareVersions = ["E11", f"for {planted.UMLAUT}"]
    block = dataset.private_block(0x0009, f"BY {planted.HOSPITAL}", create=True)
    block.add_new(1, "LO", planted.NAME)
    inner, outer = Dataset(), Dataset()
    inner.PatientName, inner.CodeMeaning, inner.PatientID = planted.NAME, planted.PHYSICIAN, planted.NUMBER
    inner.private_block(0x0011, "X", create=True).add_new(2, "UT", planted.ADDRESS)
    outer.ReferencedSOPInstanceUID, outer.PurposeOfReferenceCodeSequence = planted.UID, Sequence([inner])
    outer.StudyDate = planted.STUDY
    dataset.ReferencedImageSequence = Sequence([outer])
    dataset.add_new(0x60000010, "US", 4)
    dataset.add_new(0x60000022, "LO", planted.NAME)
    dataset.add_new(0x60003000, "OB", b"\1\0")
    dataset.add_new(0x50000010, "LO", planted.NAME)
    dataset.preamble = planted.NAME.encode().ljust(128, b"\0")
    dataset.file_meta.SourceApplicationEntityTitle = "OTTOKAR"
    dataset.file_meta.PrivateInformationCreatorUID = planted.UID
    dataset.file_meta.PrivateInformation = planted.NAME.encode()


def one(tmp_path, edit=identified, **options):
    """Return a data set as it is read from a file."""
    write_series(tmp_path / "one", image_of(1, 4, 6), edit=edit, **options)
    return pydicom.dcmread(tmp_path / "one" / "im000")


def cleaned(dataset, days=-100):
    cleaner = deidentify.Cleaner(KEY, "sub-abc", days)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cleaner.clean(dataset)
    return cleaner


@pytest.fixture
def archive(tmp_path):
    """Two studies in folders and files named after the patient, with other files between."""
    source = tmp_path / "archive"
    folder = source / f"{planted.NAME} {planted.BIRTH}" / planted.ACCESSION
    more = {"edit": identified, "SeriesDescription": "t1 mprage"}
    write_series(folder, image_of(4, 5, 6, seed=1), uids=("st", "s1"), prefix=f"{planted.NUMBER}_", **more)
    write_series(folder, image_of(4, 5, 6, seed=2), uids=("st", "s2"), prefix="x", SeriesNumber=4, **more)
    write_series(source / "b", image_of(3, 5, 6, seed=3), uids=("st2", "s3"), PatientID="B", PatientName="B^B")
    (folder / "letter.txt").write_text(planted.NAME)
    return source


def run(source, tmp_path, **options):
    out = tmp_path / "out"
    return deidentify_tree.deidentify(source, out, key_file=tmp_path / "private" / "key", **options), out


def read(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(path)


# --- the table


def test_the_table_is_the_standards():
    table = confidentiality.table()
    assert len(table) == 655
    assert set(table.values()) == {"X", "Z", "D", "U", "X/Z", "X/D", "Z/D", "X/Z/D", "X/Z/U*"}
    # Rows as PS3.15 prints them, of each kind.
    for tag, action in {
        "00100010": "Z", "00100030": "Z", "00080050": "Z", "00080018": "U", "0020000d": "U", "00081030": "X",
        "00102000": "X", "00080022": "X/Z", "0008002a": "X/Z/D", "00080023": "Z/D", "00180010": "Z/D",
        "00181000": "X/Z/D", "00181030": "X/D", "00081140": "X/Z/U*", "00120010": "D", "60xx3000": "X",
    }.items():  # fmt: skip
        assert table[tag] == action
    with Path(confidentiality.__file__).with_name("confidentiality.csv").open(encoding="ascii") as handle:
        for row in csv.DictReader(handle):
            if "x" not in row["tag"] and dictionary_has_tag(number := int(row["tag"], 16)):
                assert pydicom.datadict.keyword_for_tag(number) == row["keyword"]
                assert ("U" in row["action"]) <= (dictionary_VR(number) in ("UI", "SQ"))


def test_the_table_holds_what_gdcm_lists_for_the_same_profile():
    gdcm = pytest.importorskip("gdcm")
    listed = gdcm.Anonymizer.GetBasicApplicationLevelConfidentialityProfileAttributes()
    assert len(listed) > 40
    assert all(confidentiality.action_of(tag.GetGroup() << 16 | tag.GetElement()) for tag in listed)


@pytest.mark.parametrize(
    "vr", sorted({vr for vr, *_ in DicomDictionary.values() if " " not in vr} - {"SQ", "UI", "NONE"})
)
def test_a_dummy_is_valid_for_its_type(vr):
    dataset = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset.add_new(0x00081030, vr, confidentiality.dummy_of(vr))


# --- one data set


@pytest.mark.parametrize("days", [-100, None])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_an_identifier_in_any_element_of_the_standard_is_not_found_again(tmp_path, days, nested, syntax):
    dataset = one(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if nested:
            item = Dataset()
            fill(item)
            dataset.SourceImageSequence = Sequence([item])
        else:
            fill(dataset)
        if syntax:
            dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(tmp_path / "full.dcm", enforce_file_format=True, implicit_vr=None)
    dataset = read(tmp_path / "full.dcm")
    assert sum(1 for _ in elements(dataset)) > 1700
    cleaner = cleaned(dataset, days)
    out = tmp_path / "out"
    out.mkdir()
    dataset.save_as(out / "clean.dcm", enforce_file_format=True)
    assert planted.leaks(out) == []
    assert sum(cleaner.counts.values()) > 1500
    assert read(out / "clean.dcm").PixelData == dataset.PixelData


def test_what_is_kept_is_what_makes_the_image(tmp_path):
    dataset = one(tmp_path, modality="CT")
    before = {name: dataset[name].value for name in ("Rows", "PixelSpacing", "RescaleSlope", "ImagePositionPatient")}
    cleaned(dataset)
    assert {name: dataset[name].value for name in before} == before
    assert (dataset.PatientID, dataset.PatientName, dataset.PatientBirthDate) == ("sub-abc", "sub-abc", None)
    assert dataset.Modality == "CT"
    assert dataset.SoftwareVersions == ["E11", "REMOVED"]
    assert dataset.PatientIdentityRemoved == "YES"
    assert [code.CodeValue for code in dataset.DeidentificationMethodCodeSequence] == ["113100", "113107"]
    assert dataset.LongitudinalTemporalInformationModified == "MODIFIED"
    assert not [e for e in elements(dataset) if e.tag.is_private or e.tag.group & 0xFF00 in (0x5000, 0x6000)]
    assert len(dataset.DeidentificationMethod) <= 64
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID


def test_without_dates_they_go_as_the_plain_table_says(tmp_path):
    dataset = one(tmp_path, SeriesTime="101112", AcquisitionDate=planted.STUDY, ContentDate=planted.STUDY)
    cleaned(dataset, None)
    assert not dataset.StudyDate
    assert dataset.SeriesDate == "19000101"
    assert dataset.SeriesTime == "000000"
    assert not dataset.AcquisitionDate
    assert dataset.ContentDate == "19000101"
    assert [code.CodeValue for code in dataset.DeidentificationMethodCodeSequence] == ["113100"]
    assert dataset.LongitudinalTemporalInformationModified == "REMOVED"


def test_dates_move_together_and_times_stay(tmp_path):
    dataset = one(tmp_path, SeriesTime="101112.5", AcquisitionDateTime="20190808101112.25+0100", ContentDate="20190806")
    cleaned(dataset, -100)
    assert dataset.StudyDate == "20190429"
    assert dataset.AcquisitionDateTime == "20190430101112.25+0100"
    assert dataset.ContentDate == "20190428"
    assert dataset.SeriesTime == "101112.5"
    assert dataset.ReferencedImageSequence[0].StudyDate == "20190429"


@given(st.dates(date(1920, 1, 1), date(2100, 1, 1)), st.dates(date(1920, 1, 1), date(2100, 1, 1)), st.text(max_size=20))
def test_a_shift_keeps_the_days_between_two_dates(first, second, subject):
    days = deidentify.days_of(subject, KEY)
    assert -3650 <= days <= -30
    moved = [deidentify.shifted(f"{d:%Y%m%d}", {"DA"}, days) for d in (first, second)]
    a, b = (date(int(m[:4]), int(m[4:6]), int(m[6:])) for m in moved)
    assert b - a == second - first
    assert a < first


@pytest.mark.parametrize(
    ("text", "vr", "result"),
    [
        ("2019", "DT", "2019"), ("201908", "DT", "201908"), ("20190807", "DA", "20190806"),
        ("2019.08.07", "DA", "20190806"), ("20190807Z", "DT", ""), ("of Ottokar", "TM", ""),
        ("201908", "DA", ""), ("20190807101112", "DA", ""), ("Ottokar", "DA", ""), ("20191399", "DA", ""),
        ("00010101", "DA", ""), ("101112.123456", "TM", "101112.123456"),
    ],
)  # fmt: skip
def test_a_date_that_is_none_is_not_kept(text, vr, result):
    assert deidentify.shifted(text, {vr}, -1) == result


@given(st.lists(st.from_regex(r"1\.2(\.[1-9]\d{0,8}){1,6}", fullmatch=True), unique=True, max_size=20))
def test_new_uids_are_valid_unlike_and_depend_on_the_key(uids):
    new = [deidentify.new_uid(uid, KEY) for uid in uids]
    assert len(set(new)) == len(uids)
    assert all(pydicom.uid.UID(uid).is_valid and uid.startswith("2.25.") for uid in new)
    assert new == [deidentify.new_uid(uid, KEY) for uid in uids]
    assert not set(new) & {deidentify.new_uid(uid, bytes(32)) for uid in uids}


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(sorted(DicomDictionary)))
def test_whatever_bytes_an_element_holds_cleaning_ends(data, tag):
    vr = DicomDictionary[tag][0].split(" or ")[0]
    dataset = Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dataset.SOPClassUID = dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4"
    raw = pydicom.dataelem.RawDataElement(pydicom.tag.Tag(tag), vr, len(data), data, 0, True, True)
    if tag >> 16 >= 8 and tag not in dataset and tag >> 16 != 0x7FE0:
        dataset._dict[pydicom.tag.Tag(tag)] = raw
        cleaned(dataset)
        assert dataset.PatientID == "sub-abc"


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"}, "encapsulated document"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}, "structured report"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.11.1"}, "presentation state"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.4"}, "photograph"),
        ({"SOPClassUID": "1.3.12.2.1107.5.9.1"}, "private to a vendor"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1"}, "burned into"),
        ({"SOPClassUID": ""}, "does not say what kind"),
        ({"BurnedInAnnotation": "YES"}, "burned into"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "screen"),
        ({"SamplesPerPixel": 3}, "colour"),
        ({"SeriesInstanceUID": ""}, "SeriesInstanceUID is missing"),
        ({"Rows": 400}, "cut short"),
    ],
)
def test_what_cannot_be_cleaned_is_refused(tmp_path, tags, words):
    dataset = one(tmp_path, edit=None)
    cleanable.check_cleanable(dataset)
    for name, value in tags.items():
        setattr(dataset, name, value)
    with pytest.raises(Refusal, match=words) as caught:
        cleanable.check_cleanable(dataset)
    assert planted.leaks(str(caught.value)) == []


def test_an_overlay_hidden_in_the_pixels_is_refused(tmp_path):
    dataset = one(tmp_path, edit=None)
    dataset.add_new(0x60000010, "US", 4)
    with pytest.raises(Refusal, match="overlay lies within the pixels"):
        cleanable.check_cleanable(dataset)


def test_bytes_behind_the_last_pixel_are_cut(tmp_path):
    dataset = one(tmp_path)
    pixels = dataset.PixelData
    dataset.PixelData = pixels + planted.NAME.encode()
    cleaner = cleaned(dataset)
    assert dataset.PixelData == pixels
    assert ("data set", "(7FE0,0010)", "PixelData", "bytes behind the last pixel removed") in cleaner.counts


def test_a_comment_in_compressed_pixels_is_found(tmp_path):
    dataset = one(tmp_path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
    dataset.PixelData = pydicom.encaps.encapsulate(
        [b"\xff\x4f\xff\x64" + planted.NAME.split("^")[0].encode() + b"\0" * 9]
    )
    with pytest.raises(Refusal, match="comment in the compressed pixels"):
        cleaned(dataset)


# --- whole trees


def test_nothing_planted_is_found_in_a_cleaned_tree(archive, tmp_path, capfd):
    shutil.copytree(archive, tmp_path / "copy")
    steps = []
    outcome, out = run(archive, tmp_path, advance=lambda done, total: steps.append((done, total)))
    assert (outcome.written, outcome.others, outcome.refused) == (11, 1, {})
    assert steps == [(k, 11) for k in range(1, 12)]
    assert planted.leaks(out) == []
    assert planted.leaks(*capfd.readouterr()) == []
    files = sorted(out.rglob("*.dcm"))
    assert len(files) == 11
    assert len({f.relative_to(out).parts[0] for f in files}) == 2  # subjects
    for path in archive.rglob("*"):  # nothing in the source was touched, added or removed
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "copy" / path.relative_to(archive)).read_bytes()
    assert len(list(archive.rglob("*"))) == len(list((tmp_path / "copy").rglob("*")))
    for path in files:
        dataset = read(path)
        assert path.relative_to(out).parts == (
            dataset.PatientID,
            dataset.StudyInstanceUID,
            dataset.SeriesInstanceUID,
            f"{dataset.SOPInstanceUID}.dcm",
        )


def test_the_way_back_is_private(archive, tmp_path):
    _, out = run(archive, tmp_path)
    private = tmp_path / "private"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in private.iterdir())
    with (private / "key_subjects.csv").open(newline="", encoding="utf-8") as handle:
        subjects = {row["original"]: row["subject"] for row in csv.DictReader(handle)}
    assert set(subjects) == {planted.NUMBER, "B"}
    with (private / "key_dates.csv").open(newline="", encoding="utf-8") as handle:
        days = {row["subject"]: int(row["days"]) for row in csv.DictReader(handle)}
    with (private / "key_files.csv").open(newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            new, old = read(out / row["file"]), read(row["path"])
            assert new.PixelData == old.PixelData
            assert new.PatientID == subjects[old.PatientID]
            moved = date.fromisoformat(new.StudyDate) - date.fromisoformat(old.StudyDate)
            assert moved.days == days[new.PatientID]


def test_the_cleaned_tree_is_still_the_same_volumes(archive, tmp_path):
    _, out = run(archive, tmp_path, dates="remove")
    rows = [
        ingest(source, tmp_path / name / "volumes", key_file=tmp_path / name / "key")
        for name, source in (("a", archive), ("b", out))
    ]
    assert all(row.status == "ok" for row in rows[1])
    before, after = (Counter(row.result_sha256 for row in one) for one in rows)
    assert before == after


def test_references_between_files_still_hold(tmp_path):
    def edit(dataset, k):
        item = Dataset()
        item.ReferencedSOPInstanceUID, item.ReferencedSOPClassUID = first, dataset.SOPClassUID
        dataset.SourceImageSequence = Sequence([item])
        dataset.FrameOfReferenceUID = "1.2.3.4"

    first = pydicom.uid.generate_uid(entropy_srcs=["study", "series", "0"])
    write_series(tmp_path / "in", image_of(3, 4, 6), edit=edit)
    _, out = run(tmp_path / "in", tmp_path)
    sets = [read(path) for path in out.rglob("*.dcm")]
    assert {d.SourceImageSequence[0].ReferencedSOPInstanceUID for d in sets} == {
        deidentify.new_uid(first, _key(tmp_path))
    }
    assert {d.SourceImageSequence[0].ReferencedSOPInstanceUID for d in sets} < {d.SOPInstanceUID for d in sets}
    assert len({d.FrameOfReferenceUID for d in sets}) == 1
    assert {d.SourceImageSequence[0].ReferencedSOPClassUID for d in sets} == {sets[0].SOPClassUID}


def _key(tmp_path):
    return bytes.fromhex((tmp_path / "private" / "key").read_text(encoding="ascii").strip())


def test_files_that_cannot_be_cleaned_are_listed_by_neutral_labels(archive, tmp_path, capfd):
    captures = archive / "screens" / planted.NAME
    write_series(
        captures, image_of(1, 5, 6), edit=identified, uids=("st", "s9"), SOPClassUID="1.2.840.10008.5.1.4.1.1.7"
    )
    good = next(path for path in (archive / "b").iterdir())
    (archive / "b" / f"{planted.NUMBER}.dcm").write_bytes(good.read_bytes()[:200] + planted.NAME.encode() * 9)
    shutil.copy(good, archive / "copy.dcm")
    (archive / "b" / "changed").write_bytes(good.read_bytes()[:-2] + b"\7\7")
    outcome, out = run(archive, tmp_path)
    assert (outcome.written, outcome.copies) == (11, 1)
    reasons = sorted(outcome.refused.values())
    assert len(reasons) == 3
    assert any("secondary capture" in reason for reason in reasons)
    assert any("UID of the file is missing" in reason for reason in reasons), reasons
    assert any("same SOP instance UID" in reason for reason in reasons)
    with (out / "refused.csv").open(newline="", encoding="utf-8") as handle:
        assert {row["file"] for row in csv.DictReader(handle)} == set(outcome.refused)
    assert planted.leaks(out) == []
    assert planted.leaks(*capfd.readouterr()) == []
    back = (tmp_path / "private" / "key_files.csv").read_text(encoding="utf-8")
    assert all(label in back for label in outcome.refused)


def test_the_audit_counts_what_was_done(archive, tmp_path):
    _, out = run(archive, tmp_path)
    with (out / "audit.csv").open(newline="", encoding="utf-8") as handle:
        audit = {(row["where"], row["keyword"], row["done"]): int(row["times"]) for row in csv.DictReader(handle)}
    assert audit["data set", "PatientAddress", "removed"] == 8
    assert audit["data set", "AccessionNumber", "emptied"] == 8
    assert audit["data set", "SOPInstanceUID", "UID replaced"] == 11
    assert audit["data set", "StudyDate", "date shifted"] == 11
    assert audit["in sequences", "CodeMeaning", "replaced (repeats an identifier)"] == 8
    assert audit["file meta", "SourceApplicationEntityTitle", "removed"] == 8
    assert audit["file", "name and folder", "replaced by new UIDs"] == 11


def test_a_run_that_was_killed_goes_on(archive, tmp_path):
    class KilledError(Exception):
        pass

    def kill(done, total):
        if done == 5:
            raise KilledError

    with pytest.raises(KilledError):
        run(archive, tmp_path, advance=kill)
    out = tmp_path / "out"
    first = {path: path.stat().st_mtime_ns for path in out.rglob("*.dcm")}
    assert len(first) == 5
    assert not (out / "audit.csv").exists()
    (next(iter(first)).parent / ".123.tmp.half.dcm").write_bytes(b"half")
    journal = next((tmp_path / "private").glob("key_done-*.jsonl"))
    journal.write_text(journal.read_text(encoding="utf-8") + '{"target": "ha', encoding="utf-8")
    outcome, _ = run(archive, tmp_path)
    assert outcome.written == 11
    assert {path: path.stat().st_mtime_ns for path in first} == first  # not done twice
    assert not list(out.rglob(".*"))
    other = tmp_path / "other"
    at_once = deidentify_tree.deidentify(archive, other, key_file=tmp_path / "private" / "key")
    assert at_once.counts == outcome.counts
    for path in out.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (other / path.relative_to(out)).read_bytes()
    again, _ = run(archive, tmp_path)
    assert again.counts == outcome.counts


def test_several_processes_write_the_same(archive, tmp_path):
    _, out = run(archive, tmp_path)
    two = tmp_path / "two"
    deidentify_tree.deidentify(archive, two, key_file=tmp_path / "private" / "key", workers=2)
    names = [sorted(path.relative_to(place) for path in place.rglob("*")) for place in (out, two)]
    assert names[0] == names[1]
    assert all((out / n).read_bytes() == (two / n).read_bytes() for n in names[0] if (out / n).is_file())


def test_folders_within_each_other_are_refused(archive, tmp_path):
    key = tmp_path / "private" / "key"
    for source, out, key_file in (
        (archive, archive / "out", key),
        (archive, archive, key),
        (archive / "b", archive, key),
        (archive, tmp_path / "out", tmp_path / "out" / "key"),
        (archive, tmp_path / "out", archive / "key"),
    ):
        with pytest.raises(InputError, match=r"within each other|key must lie outside"):
            deidentify_tree.deidentify(source, out, key_file=key_file)
    (tmp_path / "link").symlink_to(archive, target_is_directory=True)
    with pytest.raises(InputError, match="within each other"):
        deidentify_tree.deidentify(archive, tmp_path / "link" / "out", key_file=key)
    assert not key.exists()


def test_an_output_folder_with_other_things_is_left_alone(archive, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="choose an empty one"):
        run(archive, tmp_path)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.txt"]
    shutil.rmtree(tmp_path / "out")
    run(archive, tmp_path)
    with pytest.raises(InputError, match="other options"):
        run(archive, tmp_path, dates="remove")


def test_a_tree_without_an_image_is_an_error(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / planted.NAME).write_text("x")
    with pytest.raises(InputError, match=r"no DICOM file in the source folder \(1 other"):
        run(tmp_path / "in", tmp_path)


def test_pydicoms_own_files_are_cleaned_or_refused_and_keep_their_pixels(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    packaged = Path(pydicom.__file__).parent / "data" / "test_files"
    for k, path in enumerate(sorted(packaged.rglob("*"))):
        if path.is_file() and path.stat().st_size < 2_000_000:
            shutil.copy(path, source / f"{k}")
    outcome, out = run(source, tmp_path)
    assert outcome.written > 15
    with (tmp_path / "private" / "key_files.csv").open(newline="", encoding="utf-8") as handle:
        back = {row["file"]: row["path"] for row in csv.DictReader(handle)}
    for path in out.rglob("*.dcm"):
        new, old = read(path), read(back[str(path.relative_to(out))])
        assert new.file_meta.TransferSyntaxUID == old.file_meta.TransferSyntaxUID
        if "PixelData" in new:
            assert old.PixelData.startswith(new.PixelData)
        assert not [e for e in elements(new) if e.tag.is_private]


@pytest.mark.skipif(not (SHARED / "dicom").is_dir(), reason="the shared data are not there")
def test_real_series_keep_their_voxels(tmp_path):
    source = SHARED / "dicom" / "mr_compressed_j2k"
    outcome, out = run(source, tmp_path)
    assert outcome.written == 4
    volumes = []
    for folder in (source, out):
        (series,), _ = dicom.scan(path for path in folder.rglob("*") if path.is_file() and dicom.is_dicom(path))
        (part,) = dicom.split(series)
        volumes.append(dicom.load(dicom.check(part)))
    assert np.array_equal(volumes[0].voxels, volumes[1].voxels)
    assert np.array_equal(volumes[0].affine, volumes[1].affine)


def test_the_journal_holds_no_value_of_a_header(archive, tmp_path):
    run(archive, tmp_path)
    journal = next((tmp_path / "private").glob("key_done-*.jsonl"))
    entries = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    assert len(entries) == 12
    assert planted.leaks("\n".join(json.dumps(entry) for entry in entries[1:])) == []


@pytest.mark.parametrize("implicit", [False, True])
def test_files_without_preamble_are_cleaned_as_ingestion_reads_them(tmp_path, implicit):
    source = tmp_path / "in"
    write_series(source, image_of(3, 5, 6), edit=identified)
    volume = dicom.load(dicom.check(dicom.split(dicom.scan(source.iterdir())[0][0])[0]))
    for path in source.iterdir():
        dataset = read(path)
        dataset.file_meta, dataset.preamble = pydicom.dataset.FileMetaDataset(), None
        dataset.save_as(path, enforce_file_format=False, implicit_vr=implicit, little_endian=True)
        assert path.read_bytes()[128:132] != b"DICM"
    outcome, out = run(source, tmp_path)
    assert (outcome.written, outcome.others, outcome.refused) == (3, 0, {})
    cleaned = list(out.rglob("*.dcm"))
    assert all(path.read_bytes()[128:132] == b"DICM" for path in cleaned)
    assert planted.leaks(out) == []
    again = dicom.load(dicom.check(dicom.split(dicom.scan(cleaned)[0][0])[0]))
    assert np.array_equal(volume.voxels, again.voxels)


@pytest.mark.skipif(os.name == "nt" or sys.platform == "darwin", reason="names are Unicode there")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_whose_name_is_no_utf_8_is_cleaned_like_any_other(tmp_path, workers):
    source = tmp_path / os.fsdecode(b"M\xfcller")
    write_series(source, image_of(2, 4, 6), edit=identified)
    (source / "im000").write_bytes((source / "im000").read_bytes()[:400])
    outcome, out = run(source, tmp_path, workers=workers)
    assert (outcome.written, len(outcome.refused)) == (1, 1)
    for path in out.rglob("*"):
        assert b"M\xfcller" not in os.fsencode(path.relative_to(out))
        if path.suffix == ".csv":
            assert "ller" not in path.read_text(encoding="utf-8")
    table = (tmp_path / "private" / "key_files.csv").read_text(encoding="utf-8")
    rows = [row[1] for row in csv.reader(table.splitlines())][1:]
    assert all("M%FCller" in uri for uri in rows)
    found = {Path(os.fsdecode(unquote_to_bytes(uri.removeprefix("file://")))) for uri in rows}
    assert found == set(source.iterdir())
    assert run(source, tmp_path)[0].written == 1  # and again
