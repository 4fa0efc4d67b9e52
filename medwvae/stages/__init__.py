"""What each subcommand does: read the study's files, call the rooms below, write the study's files."""

from medwvae.stages.coefficients import edit, heatmap
from medwvae.stages.cohort import ingest, phantom, preprocess, split
from medwvae.stages.comparing import compare
from medwvae.stages.export import export
from medwvae.stages.generation import (
    REFERENCES,
    generative_references,
    generative_report,
    score_generative,
    train_generative,
    train_prior,
    trained_model,
)
from medwvae.stages.latent_coefficients import edit_latent, heatmap_latent
from medwvae.stages.latents import generative_uses, impute, interpolate, sample
from medwvae.stages.plan import (
    direct,
    generative_models,
    generative_weights,
    image_set_files,
    methods_of,
    module_of,
    networks_trained,
    neutral,
    source_of,
    weights_of,
    write_config,
)
from medwvae.stages.privacy import deidentify
from medwvae.stages.reporting import card, report
from medwvae.stages.restoration import evaluate, restore
from medwvae.stages.training import train

__all__ = [
    "REFERENCES",
    "card",
    "compare",
    "deidentify",
    "direct",
    "edit",
    "edit_latent",
    "evaluate",
    "export",
    "generative_models",
    "generative_references",
    "generative_report",
    "generative_uses",
    "generative_weights",
    "heatmap",
    "heatmap_latent",
    "image_set_files",
    "impute",
    "ingest",
    "interpolate",
    "methods_of",
    "module_of",
    "networks_trained",
    "neutral",
    "phantom",
    "preprocess",
    "report",
    "restore",
    "sample",
    "score_generative",
    "source_of",
    "split",
    "train",
    "train_generative",
    "train_prior",
    "trained_model",
    "weights_of",
    "write_config",
]
