import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from medwvae import cli, progress, stages
from medwvae.config_io import load
from medwvae.data import nifti
from medwvae.data.records import writing
from medwvae.errors import InputError, not_written, storage_words
from tests.data.series import image_of, write_series

HANGS = 600
HEAVY = (
    *("torch", "torch._dynamo", "lightning_fabric", "monai", "numpy", "pandas", "pydantic", "yaml"),
    *("scipy", "matplotlib", "nibabel", "pydicom"),
)


def medwvae(*arguments, **options):
    code = "from medwvae.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=HANGS, **options
    )


def answered(tmp_path, *arguments):
    """Return the answer and which heavy packages were imported for it: what makes it quick, on any machine."""
    seen = tmp_path / "imported"
    code = f"import atexit, sys\natexit.register(lambda: print(*sys.modules, file=open({str(seen)!r}, 'w')))\n"
    answer = subprocess.run(
        [sys.executable, "-c", f"{code}from medwvae.cli import main; main()", *map(str, arguments)],
        capture_output=True, text=True, timeout=HANGS,
    )  # fmt: skip
    imported = set(seen.read_text().split())
    assert "medwvae.cli" in imported
    return answer, imported & set(HEAVY)


def loaded_by(statement):
    code = f"{statement}\nimport sys\nprint(*(m for m in {HEAVY} if m in sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANGS, check=True)
    return set(answer.stdout.split())


def test_help_needs_nothing_heavy(tmp_path):
    answer, heavy = answered(tmp_path, "--help")
    assert answer.returncode == 0
    assert heavy == set()
    for command in (
        "phantom",
        "ingest",
        "split",
        "preprocess",
        "train",
        "restore",
        "evaluate",
        "report",
        "export",
        "config",
    ):
        assert f"\n  {command} " in answer.stdout


def test_nothing_heavy_is_imported_before_it_is_needed():
    assert loaded_by("import medwvae.cli") == set()
    # What the Snakefile imports: a dry run needs the configuration, but neither arrays nor networks.
    light = {"pydantic", "yaml"}
    assert loaded_by("import medwvae.stages, medwvae.config_io, medwvae.paths, medwvae.provenance") <= light
    assert loaded_by("from medwvae.config_io import load; load()") <= light
    # Restoring by wavelets, scoring and reporting need PyTorch, but neither its compiler nor what trains with it.
    work = loaded_by("import medwvae.restore, medwvae.evaluate, medwvae.nets.wavelet_vae, medwvae.report.page")
    assert "torch" in work and not work & {"torch._dynamo", "lightning_fabric", "monai"}


def test_a_typo_is_answered_at_once_in_one_line(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("run: a\ntrain:\n  bach: 3\n", encoding="utf-8")
    for command in (["config"], ["train", "--task", "recon", "--network", "unet"]):
        answer, heavy = answered(tmp_path, *command, "--config", file)
        assert answer.returncode == 2
        assert answer.stdout == ""
        assert answer.stderr == f"medwvae: error: {file}:3: unknown key `train.bach`; did you mean `batch`?\n"
        assert heavy <= {"pydantic", "yaml"}


def test_errors_also_reach_the_log(tmp_path):
    log = tmp_path / "logs" / "rule.log"
    answer = medwvae("--log", log, "config", "--set", "train.bach=3")
    assert answer.returncode == 2
    assert log.read_text(encoding="utf-8") == answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_mistake_of_the_programs_own_keeps_its_traceback_in_the_log(tmp_path):
    log = tmp_path / "rule.log"
    code = "import medwvae.stages, medwvae.cli\nmedwvae.stages.report = lambda config: 1 / 0\nmedwvae.cli.main()"
    answer = subprocess.run(
        [sys.executable, "-c", code, "--log", log, "report"], capture_output=True, text=True, timeout=HANGS
    )
    assert answer.returncode == 1
    assert "ZeroDivisionError" in log.read_text(encoding="utf-8")
    assert "ZeroDivisionError" in answer.stderr


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EDQUOT, "no space left"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "not permitted"),
        (errno.EPERM, "not permitted"),
        (errno.ENOENT, "no such file or folder"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_what_a_disk_refuses_is_one_line_without_names(tmp_path, monkeypatch, capsys, code, words, wrapped):
    def report(config):
        try:
            raise OSError(code, "text of Planted", str(tmp_path / "Planted" / "x"))
        except OSError as error:
            if wrapped:  # as pydicom does
                raise type(error)("With tag (0010,0010) got exception: of Planted") from error
            raise

    monkeypatch.setattr(stages, "report", report)
    monkeypatch.setattr(sys, "argv", ["medwvae", "--log", str(tmp_path / "log"), "report"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    progress.log_to(None)
    assert ended.value.code == 2
    assert said.startswith("medwvae: error: ")
    assert words in said
    assert said.count("\n") == 1
    assert "Planted" not in said
    assert (tmp_path / "log").read_text(encoding="utf-8") == said


def test_an_error_of_a_library_that_hides_a_full_disk_is_the_disks():
    try:
        try:
            raise OSError(errno.ENOSPC, "full")
        except OSError:
            raise RuntimeError("unexpected pos")  # noqa: B904 -- as libraries do
    except RuntimeError as error:
        assert "no space" in storage_words(error)
    try:
        try:
            raise FileNotFoundError(errno.ENOENT, "probed for")
        except OSError:
            raise KeyError("a mistake")  # noqa: B904
    except KeyError as error:
        assert storage_words(error) == ""


def test_what_cannot_be_written_is_said_in_the_same_words_everywhere(tmp_path):
    full = OSError(errno.ENOSPC, "full", str(tmp_path / "Planted"))
    with pytest.raises(InputError, match="the results cannot be written: there is no space left") as raised, writing():
        raise full
    assert "Planted" not in str(raised.value) and storage_words(full) in str(raised.value)
    assert str(not_written("it", OSError(errno.EBUSY, "busy"))) == "it cannot be written: busy"


@pytest.fixture
def images(tmp_path):
    write_series(tmp_path / "Planted" / "in", image_of(3, 64, 64))
    return tmp_path / "Planted" / "in"


def refused_to_write(answer, words):
    assert answer.returncode == 2, answer.stderr
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr
    assert "Planted" not in answer.stderr
    assert len([line for line in answer.stderr.splitlines() if "error" in line]) == 1


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder in which nobody can make one")
def test_a_folder_that_cannot_be_made_is_said(images, tmp_path):
    refused_to_write(medwvae("deidentify", images, "/proc/zz"), "<folder of the key>: there is no such file or folder")
    volume = tmp_path / "v.nii.gz"
    nifti.write(volume, image_of(64, 64, 3).astype(np.float32), np.diag([-1.0, -1, 2, 1]))
    answer = medwvae("export", "--volume", volume, "--source", images, "--out", "/proc/e9", cwd=tmp_path)
    refused_to_write(answer, "<out>: there is no such file or folder")


@pytest.mark.parametrize("threads", [1, 2])
def test_a_disk_that_is_full_is_said_and_leaves_no_half_file(images, tmp_path, threads):
    resource = pytest.importorskip("resource")
    out = tmp_path / "out"
    # Coverage of a subprocess would itself find no room for its data.
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    full = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)), "env": quiet}
    refused_to_write(medwvae("deidentify", images, out, "--threads", threads, **full), "no space left")
    assert not [path for path in out.rglob("*") if path.is_file()]
    volume = tmp_path / "v.nii.gz"
    nifti.write(volume, image_of(64, 64, 3).astype(np.float32), np.diag([-1.0, -1, 2, 1]))
    answer = medwvae("export", "--volume", volume, "--source", images, "--out", tmp_path / "sent", cwd=tmp_path, **full)
    refused_to_write(answer, "no space left")
    assert not list(tmp_path.glob("*sent*"))


def test_the_resolved_configuration_reads_back_as_itself(tmp_path):
    answer = medwvae("config", "--set", "train.batch=3", "--set", "tasks.recon.crop=null")
    assert answer.returncode == 0
    file = tmp_path / "study.yaml"
    file.write_text(answer.stdout, encoding="utf-8")
    config = load([file])
    assert config == load(overrides=["train.batch=3", "tasks.recon.crop=null"])
    assert yaml.safe_load(answer.stdout) == config.model_dump(mode="json")
    assert medwvae("config", "-c", file).stdout == answer.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["train", "--task", "recn", "--network", "unet"],
            "no task 'recn'; have: superres, denoise, recon, ct, inpaint",
        ),
        (["train", "--task", "recon", "--network", "gan"], "no network 'gan'; have: wavelet_vae, conv_vae, unet"),
        (["restore", "--task", "recon", "--method", "nlm"], "no method 'nlm' for task 'recon'; have: input"),
        (["restore", "--task", "recn", "--method", "nlm"], "no task 'recn'"),
        (["evaluate", "--task", "recn"], "no task 'recn'"),
        (["split"], "manifest.csv"),
        (["preprocess"], "splits.csv"),
        (["train", "--task", "recon", "--network", "unet"], "prepared.csv"),
        (["report"], "run `medwvae evaluate --task superres` first"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_done_is_said_in_one_line(tmp_path, arguments, words):
    answer = medwvae(*arguments, cwd=tmp_path)
    assert answer.returncode == 2
    assert answer.stderr.startswith("medwvae: error: ")
    assert words in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_a_network_cannot_train_where_it_is_not_enabled():
    config = load(overrides=["networks.enabled=[wavelet_vae]"])
    assert {network for _, network in stages.networks_trained(config)} == {"wavelet_vae"}
