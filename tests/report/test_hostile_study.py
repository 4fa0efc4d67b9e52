"""A study whose headers carry hostile text, by the real stages from DICOM to the page and the cards."""

import html

import pydicom
import pytest

from medwvae import paths, stages
from medwvae.config_io import load
from medwvae.data import manifest
from tests.cases import head_like
from tests.data.series import write_series
from tests.report import browser
from tests.report.test_report import Elements

MARK = "planted-by-the-test"
HOSTILE = (
    f"<script>document.title='{MARK}'</script><img src=x onerror=alert(1)>\n"
    "\u202egnirts desrever\u202c \U0001f9e0 ' \" & </td></table>" + "A" * 10_000
)
KEYWORDS = (
    "SeriesDescription", "ProtocolName", "StudyDescription", "PatientName", "PatientID", "StationName",
    "InstitutionName", "Manufacturer",
)  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The folder of a finished study: three heads, and a series that lacks a slice; every header hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    patch = pytest.MonkeyPatch()
    for which in ("reading", "writing"):
        patch.setattr(pydicom.config.settings, f"{which}_validation_mode", pydicom.config.IGNORE)

    def planted(dataset, k):
        dataset.SpecificCharacterSet = "ISO_IR 192"
        patient = dataset.PatientID
        for keyword in KEYWORDS:
            setattr(dataset, keyword, f"{patient} <script>\u202e</script>" if keyword == "PatientID" else HOSTILE)
        dataset.PatientSex = HOSTILE.encode("ascii", "ignore").decode()  # a code: ASCII only

    try:
        for k, name in enumerate(("one", "two", "three")):
            volume = (900 * head_like((12, 24, 20), k)[0]).astype("uint16")
            write_series(folder / "in" / name, volume, uids=(name, name), edit=planted, PatientID=name)
        write_series(folder / "in" / "gap", volume, uids=("gap", "gap"), edit=planted, PatientID="four")
        sorted((folder / "in" / "gap").iterdir(), key=lambda p: pydicom.dcmread(p).ImagePositionPatient[2])[4].unlink()
    finally:
        patch.undo()
    config = load(
        overrides={
            "input": str(folder / "in"),
            "results": str(folder / "results"),
            "ingest.subjects": "keep",
            "split": {"train": 0.34, "val": 0.33, "test": 0.33},
            "tasks": {"enabled": ["denoise"], "denoise": {"crop": [16, 16]}},
            "networks.enabled": ["wavelet_vae"],
            "networks.wavelet_vae.denoise": {"widths": [6, 8], "blocks": 1, "rounds": 2},
            "classical": {"enabled": ["tv"], "tuning_subjects": 1, "tuning_slices": 1},
            "train": {
                "budget": "2 steps", "batch": 2, "validations": 1, "validation_slices": 1, "precision": "32-true",
                "accelerator": "cpu",
            },
        }
    )  # fmt: skip
    stages.ingest(config, 1)
    stages.split(config)
    stages.preprocess(config, 1)
    stages.train(config, "denoise", "wavelet_vae", 1)
    for method in stages.methods_of(config, "denoise"):
        stages.restore(config, "denoise", method, 1)
    stages.evaluate(config, "denoise", 1)
    stages.report(config)
    return config


def test_the_study_went_through_and_one_series_was_refused(report):
    rows = manifest.read(paths.manifest(report.root))
    assert sorted(row.status for row in rows) == ["ok", "ok", "ok", "refused"]
    text = Elements(paths.report(report.root).read_text(encoding="utf-8")).text
    assert "1 of 4 images were refused" in text and "To reproduce" in text


def test_no_page_holds_an_element_or_a_turn_of_writing_from_a_header(report):
    pages = sorted(report.root.glob("*.html"))
    assert len(pages) == 3  # the report, the model card, the data sheet
    for page in pages:
        source = page.read_text(encoding="utf-8")
        elements = Elements(source)
        assert elements.open == []
        assert not any("onerror" in attributes for _, attributes in elements.found)
        assert sum(tag == "script" and "type" not in attributes for tag, attributes in elements.found) in (0, 2)
        assert f"<script>document.title='{MARK}'" not in source and "\u202e" not in source
        assert "A" * 300 not in html.unescape(elements.text)
    for table in (*report.root.glob("*.md"), *report.root.glob("*.csv")):
        assert "<script>" not in table.read_text(encoding="utf-8")


@pytest.mark.skipif(browser.FOUND is None, reason="no Chromium here (Debian: apt-get install chromium)")
def test_nothing_of_a_header_runs_in_the_browser(report, tmp_path):
    driven = browser.Browser(tmp_path / "profile")
    try:
        for page in sorted(report.root.glob("*.html")):
            driven.open(page)
            assert driven.run("document.title") != MARK
            assert not [e for e in driven.events if e["method"] in ("Log.entryAdded", "Page.javascriptDialogOpening")]
            assert driven.run("document.documentElement.scrollWidth <= innerWidth")
    finally:
        driven.close()
