"""Every degradation that a configuration can name, from training to scores, on a tiny prepared cohort."""

from typing import Any

import pandas as pd
import pytest

from medwvae import paths, stages
from medwvae.config_io import load
from medwvae.data import loaders
from medwvae.files import atomic
from medwvae.names import Task
from tests.cases import case

VARIANTS: dict[str, tuple[Task, dict[str, Any]]] = {
    "ixi-bd": ("superres", {"protocol": "ixi-bd", "crop": [24, 16]}),
    "through-plane": ("superres", {"protocol": "through-plane", "crop": None}),
    "brainweb-gaussian": ("denoise", {"noise": "gaussian", "crop": [24, 16]}),
    "poisson": ("denoise", {"noise": "poisson", "crop": [24, 16]}),
    "calgary": ("recon", {"pattern": "poisson-disc", "centre": 0.15, "coils": 4}),
    "sparse-view": ("ct", {"views": 12, "photons": 1e5}),
    "inpainting": ("inpaint", {"crop": [24, 16]}),
}


FAST = ["zero_filled", "spline", "lanczos", "tv", "fbp", "sirt"]
"""Of the classical methods; the others are tested on their own."""


def study(folder, task, options, **changes):
    """Write what preprocessing leaves behind, and return the configuration."""
    config = load(
        overrides={
            "results": str(folder),
            "preprocess.plane": "coronal",
            "tasks": {"enabled": [task], task: options},
            "networks.enabled": ["wavelet_vae", "unet"],
            f"networks.wavelet_vae.{task}": {"widths": [6, 8], "blocks": 1, "rounds": 2},
            "networks.unet.features": [4] * 6,
            "classical": {"enabled": FAST, "tuning_subjects": 1, "tuning_slices": 1},
            "train": {
                "budget": "3 steps",
                "batch": 2,
                "validations": 1,
                "validation_slices": 1,
                "precision": "32-true",
                "accelerator": "cpu",
            },
        }
        | changes
    )
    volumes = [case(name, shape=(12, 24, 20), seed=seed) for seed, name in enumerate("abc")]
    rows = [(v.volume, v.subject, "t1w", part) for v, part in zip(volumes, ("train", "val", "test"), strict=True)]
    loaders.write_index(paths.prepared_index(config.root), rows)
    for volume in volumes:
        volume.prepared.save(paths.prepared(config.root) / f"{volume.volume}.npz")
    with atomic(paths.manifest(config.root)) as temporary:
        temporary.write_text("volume\na\nb\nc\n")
    return config


@pytest.mark.parametrize("protocol", list(VARIANTS))
def test_from_training_to_scores(tmp_path, protocol):
    task, options = VARIANTS[protocol]
    config = study(tmp_path, task, options)
    for network in config.networks.enabled:
        stages.train(config, task, network, 1)
    methods = stages.methods_of(config, task)
    for method in methods:
        stages.restore(config, task, method, 1)
    stages.evaluate(config, task, 1)
    scores = pd.read_csv(paths.scores(config.root, task))
    assert set(scores["method"]) == set(methods)
    assert set(scores["protocol"]) == {protocol}
    assert set(scores["region"]) == {"head", "whole"}
    assert scores["value"].notna().all()
