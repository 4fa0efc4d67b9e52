"""What each subcommand does: read the study's files, call the rooms below, write the study's files."""

from medwvae.stages.cohort import ingest, phantom, preprocess, split
from medwvae.stages.export import export
from medwvae.stages.plan import direct, methods_of, networks_trained, neutral, source_of, write_config
from medwvae.stages.privacy import deidentify
from medwvae.stages.reporting import report
from medwvae.stages.restoration import evaluate, restore
from medwvae.stages.training import train

__all__ = [
    "deidentify",
    "direct",
    "evaluate",
    "export",
    "ingest",
    "methods_of",
    "networks_trained",
    "neutral",
    "phantom",
    "preprocess",
    "report",
    "restore",
    "source_of",
    "split",
    "train",
    "write_config",
]
