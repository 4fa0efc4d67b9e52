"""What lies in a source beside sound images: links, closed and empty files, results of another run."""

import os
from pathlib import Path

import pydicom
import pytest

from medwvae.data import deidentify_tree, sources
from medwvae.data.ingest import ingest
from medwvae.data.manifest import write
from medwvae.data.tree import Tree
from medwvae.errors import InputError
from tests.data.series import image_of, write_series


def run(source, tmp_path, name="run", **options):
    return ingest(source, tmp_path / name / "canonical", key_file=tmp_path / "private" / "key", **options)


def good(rows):
    return [row for row in rows if row.status == "ok"]


def reasons(rows):
    return sorted(row.reason for row in rows if row.status == "refused")


def found(source, tmp_path):
    return sources.find(source, tmp_path / "run" / "canonical", pattern=None, default_modality="MR")


@pytest.fixture
def close(monkeypatch):
    """Make files and folders unreadable, for root as well."""
    closed: set[Path] = set()
    path_open, scandir = Path.open, os.scandir

    def refuse_open(self, *args, **options):
        if self in closed:
            raise PermissionError(13, "Permission denied", str(self))
        return path_open(self, *args, **options)

    def refuse_scandir(path="."):
        if Path(path) in closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(Path, "open", refuse_open)
    monkeypatch.setattr(os, "scandir", refuse_scandir)
    return closed.add


def scan_of(folder, name="s", prefix="im"):
    """Write a series and return its files in the order of its slices."""
    write_series(folder, image_of(5, 6, 7, seed=sum(map(ord, name))), uids=("study", name), prefix=prefix)
    return sorted(folder.glob(f"{prefix}*"), key=lambda path: pydicom.dcmread(path).ImagePositionPatient[2])


def test_closed_files_and_folders_are_refused_rows(tmp_path, close):
    source = tmp_path / "in"
    files = scan_of(source / "a")
    scan_of(source / "b", "t")
    scan_of(source / "Doe^Jane", "u")
    (source / "b" / "notes.txt").write_text("x")
    for path in (files[0], files[4], source / "b" / "notes.txt", source / "Doe^Jane"):
        close(path)
    images, ignored = found(source, tmp_path)
    said = sorted(image.refusal for image in images)
    assert ignored == 0
    # One is sound: the series of b, which lost nothing that is named like its slices.
    assert [text[:11] for text in said] == ["", "a file in t", *["a file of t"] * 3, "a folder of"]
    rows = run(source, tmp_path)
    assert len(good(rows)) == 1
    assert len(rows) == 6
    assert not any("Doe" in row.reason or "notes" in row.reason for row in rows)


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file")
def test_permissions_of_the_file_system_count(tmp_path):
    files = scan_of(tmp_path / "in")
    for path in files:
        path.chmod(0)
    with pytest.raises(InputError, match="none of 5 images"):
        run(tmp_path / "in", tmp_path)


def test_a_link_to_nowhere_and_a_pipe(tmp_path):
    scan_of(tmp_path / "in" / "a")
    (tmp_path / "in" / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in" / "loop")
    os.mkfifo(tmp_path / "in" / "pipe")  # opening it would wait for ever
    images, ignored = found(tmp_path / "in", tmp_path)
    assert ignored == 1
    assert sum("link to nowhere" in image.refusal for image in images) == 2
    assert len(good(run(tmp_path / "in", tmp_path))) == 1


@pytest.mark.parametrize("content", [b"", b"\0" * 3000, None], ids=["empty", "zeroed", "cut"])
def test_a_lost_slice_at_the_end_does_not_pass_as_a_shorter_volume(tmp_path, content):
    source = tmp_path / "in"
    files = scan_of(source / "a")
    scan_of(source / "b", "t")
    files[-1].write_bytes(files[-1].read_bytes()[:300] if content is None else content)
    rows = run(source, tmp_path)
    assert len(good(rows)) == 1
    assert [text[:9] for text in reasons(rows)] == ["a file in", "the heade"]


def test_among_several_series_a_lost_file_is_noted_and_stops_none(tmp_path):
    source = tmp_path / "in"
    scan_of(source)
    files = scan_of(source, "t", prefix="x")
    files[-1].write_bytes(b"")
    rows = run(source, tmp_path)
    assert len(good(rows)) == 2
    assert [text[:9] for text in reasons(rows)] == ["the heade"]
    for path in (tmp_path / "run").rglob("sub-*/**/*.json"):
        assert '"DamagedFilesInFolder": 1' in path.read_text()


def test_other_files_beside_a_series_do_no_harm(tmp_path):
    scan_of(tmp_path / "in")
    for name in ("DONE", "notes.txt", "checksum.md5"):
        (tmp_path / "in" / name).write_bytes(b"")
    rows = run(tmp_path / "in", tmp_path)
    assert [row.status for row in rows] == ["ok"]


# --- links


def test_links_to_folders_are_followed_once(tmp_path):
    archive, cohort = tmp_path / "archive", tmp_path / "cohort"
    scan_of(archive / "2020" / "a")
    scan_of(archive / "2021" / "b", "t")
    cohort.mkdir()
    (cohort / "one").symlink_to(archive / "2020" / "a")
    (cohort / "two").symlink_to(archive)  # holds the first again
    (cohort / "again").symlink_to(archive / "2021")
    (archive / "2021" / "up").symlink_to(archive)
    (cohort / "self").symlink_to(cohort)
    (cohort / "above").symlink_to(tmp_path)
    rows = run(cohort, tmp_path)
    assert [row.status for row in rows] == ["ok", "ok"]


def test_links_into_a_hidden_folder_are_followed(tmp_path):
    scan_of(tmp_path / "in" / ".store" / "a")
    (tmp_path / "in" / "one").symlink_to(tmp_path / "in" / ".store" / "a")
    assert [row.status for row in run(tmp_path / "in", tmp_path)] == ["ok"]


def test_a_folder_is_read_at_its_own_place_rather_than_through_a_link(tmp_path):
    (tmp_path / "in" / "z").mkdir(parents=True)
    (tmp_path / "in" / "a").symlink_to(tmp_path / "in" / "z")
    assert [folder.name for folder, _, _ in Tree(tmp_path / "in").walk()] == ["in", "z"]


def test_deidentify_follows_links_and_lists_what_is_closed(tmp_path, close):
    source = tmp_path / "cohort"
    scan_of(tmp_path / "archive" / "a")
    files = scan_of(source / "b", "t")
    scan_of(source / "c", "u")
    (source / "one").symlink_to(tmp_path / "archive" / "a")
    (source / "self").symlink_to(source)
    (source / "gone").symlink_to(tmp_path / "nowhere")
    close(files[0])
    close(source / "c")
    outcome = deidentify_tree.deidentify(source, tmp_path / "out", key_file=tmp_path / "private" / "key")
    assert outcome.written == 5 + 4
    assert outcome.others == 0
    assert sorted(text[:8] for text in outcome.refused.values()) == ["a folder", "the file", "the file"]
    assert (tmp_path / "out" / "refused.csv").read_text().count("cannot be opened") == 3
    for path in files:
        close(path)
    with pytest.raises(InputError, match=r"2 files or folders|none of|cannot be opened"):
        deidentify_tree.deidentify(source / "b", tmp_path / "out2", key_file=tmp_path / "private" / "key2")


def test_a_source_that_is_a_file_is_called_one(tmp_path):
    file = scan_of(tmp_path / "in")[0]
    with pytest.raises(InputError, match="is a file"):
        deidentify_tree.deidentify(file, tmp_path / "out", key_file=tmp_path / "private" / "key")


# --- results


def test_results_of_another_run_in_the_source_are_not_read(tmp_path):
    source = tmp_path / "in"
    scan_of(source / "a")
    for name in ("in/results/x", "in/results/y", "elsewhere"):
        rows = run(source, tmp_path, name)
        assert len(rows) == 1
        write(tmp_path / name / "manifest.csv", rows)
        assert list((tmp_path / name / "state" / "ingest").glob("*.nii.gz"))


def test_results_are_no_source(tmp_path):
    scan_of(tmp_path / "in" / "a")
    rows = run(tmp_path / "in", tmp_path)
    for place in ("canonical", "state", "state/ingest"):
        with pytest.raises(InputError, match="own results"):
            run(tmp_path / "run" / place, tmp_path)
    write(tmp_path / "run" / "manifest.csv", rows)
    with pytest.raises(InputError, match="results of a run"):
        run(tmp_path / "run", tmp_path, "other")
