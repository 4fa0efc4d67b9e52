"""medwvae: DICOM or NIfTI in, report out. Usage: snakemake --cores N [--configfile FILE] [--config key=value ...]"""

import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")

from medwvae import paths, progress, provenance, stages
from medwvae.config import slice_for
from medwvae.config_base import parse_budget
from medwvae.config_io import load
from medwvae.errors import MedwvaeError
from medwvae.names import LATENT_USES, NETWORKS, ZERO_SHOT, task_of

try:
    # Our own merge, so that a mistake is answered with its file, line and the nearest valid name.
    given = stages.direct(
        load(workflow.config_settings.configfiles, workflow.config_settings.config)
    )
    # Paths of the user's can name a patient, and Snakemake records what it reads and how it was called.
    for key, path in given.own_paths.items():
        progress.hide(path, key)
    sys.argv = [progress.shown(word) for word in sys.argv]
    study = stages.neutral(given)
except MedwvaeError as error:
    raise SystemExit(f"medwvae: error: {error}")

root = study.root


onstart:
    stages.write_config(study)


include: "workflows/rules/common.smk"
include: "workflows/rules/ingest.smk"
include: "workflows/rules/preprocess.smk"
include: "workflows/rules/train.smk"
include: "workflows/rules/restore.smk"
include: "workflows/rules/evaluate.smk"
include: "workflows/rules/generative.smk"
include: "workflows/rules/report.smk"


rule all:
    default_target: True
    input:
        paths.report(root),
