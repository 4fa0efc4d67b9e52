"""Restoration by the prior of a generative model: true to the data, the same again, of any task."""

import json
from typing import Any

import pytest
import torch

from medwvae import paths, provenance, stages
from medwvae.degradation import BicubicSuperres, Denoise, Inpaint, Recon, SparseView, Superres
from medwvae.names import TASKS, ZERO_SHOT
from medwvae.nets.wavelet_latent import WaveletLatentVAE
from medwvae.operators import magnitude, rician_mean
from medwvae.zero_shot import GRIDS, zero_shot
from tests.test_restoration_tasks import study

FEW = {"first": 0.1, "last": 0.02, "steps": 3}
MEASURED: dict[str, tuple[str, Any]] = {
    "td": ("superres", Superres(2)),
    "bd": ("superres", BicubicSuperres(2)),
    "recon": ("recon", Recon(3, 0.2, "random", 1.0)),
    "recon without phase": ("recon", Recon(3, 0.2, "random", 0.0)),
    "ct": ("ct", SparseView(12)),
    "inpaint": ("inpaint", Inpaint()),
    **{law: ("denoise", Denoise(0.05, law)) for law in ("rician", "gaussian", "poisson")},
}


def model(scale=0.0):
    """Return an untrained prior; `scale` is added to the logarithm of the scale of its details."""
    torch.manual_seed(0)
    network: Any = WaveletLatentVAE(
        objective="elbo", widths=(4, 4), blocks=0, refine="none", prior_width=4, prior_blocks=0, wavelet="sym4"
    )
    with torch.no_grad():
        network.prior.log_scale += scale
        network.coarse_log_scale += 5
    return network.eval()


def images(batch=3, shape=(26, 23)):
    """Return smooth images far above 0."""
    y, x = torch.meshgrid(torch.linspace(0, 3, shape[0]), torch.linspace(0, 4, shape[1]), indexing="ij")
    return torch.stack([1 + 0.2 * torch.sin((1 + 0.2 * k) * y) * torch.cos(x) for k in range(batch)])[:, None]


def measured(name, x):
    task, degrade = MEASURED[name]
    simulated = degrade(x, torch.full((len(x),), 1.2), torch.Generator().manual_seed(4), None)
    few = {"noise": 1.0, "shifts": 3} if task == "denoise" else FEW
    return task, simulated, few


@pytest.mark.parametrize("name", MEASURED)
def test_every_task_the_same_again_and_slice_by_slice(name):
    task, simulated, few = measured(name, images())
    method = zero_shot(model(), task)
    found = method.run(simulated.measurement, **few)
    assert found.shape == (3, 1, 26, 23) and found.isfinite().all() and (found >= 0).all()
    torch.rand(7)  # the global state is not read
    assert torch.equal(method.run(simulated.measurement, **few), found)
    apart = zero_shot(model(), task, batch=1).run(simulated.measurement, **few)
    torch.testing.assert_close(apart, found, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["td", "bd", "inpaint"])
def test_what_is_known_exactly_is_exact(name):
    x = images()
    task, simulated, few = measured(name, x)
    given = simulated.measurement
    found = zero_shot(model(), task).run(given, **few)
    assert not torch.allclose(found, x, atol=1e-3)
    known = given.operator.forward(found)
    assert float((known - given.data).abs().max()) <= 1e-5 * float(given.data.abs().max())
    if name == "inpaint":
        mask = given.mask.expand_as(x)
        assert torch.equal(found[mask], x[mask])


@pytest.mark.parametrize("name", ["recon without phase", "inpaint"])
def test_a_prior_of_smooth_images_brings_smooth_images_back(name):
    x = images()
    task, simulated, _ = measured(name, x)
    found = zero_shot(model(-3.0), task).run(simulated.measurement, first=0.5, last=0.01, steps=20)
    error, start = ((one - x).square().mean() for one in (found, magnitude(simulated.measurement.start)))
    assert float(error) < 0.9 * float(start)


def test_without_prior_knowledge_a_noisy_image_stays_and_its_bias_goes():
    x = images()
    for law in ("gaussian", "rician"):
        given = Denoise(0.05, law)(x, torch.full((3,), 1.2), torch.Generator().manual_seed(4), None).measurement
        found = zero_shot(model(10.0), "denoise").run(given, noise=1.0, shifts=2)
        again = found if law == "gaussian" else torch.from_numpy(rician_mean((found / 0.06).numpy(), 1.0)) * 0.06
        torch.testing.assert_close(again.float(), given.start, atol=2e-3, rtol=0)


def test_poisson_noise_is_smoothed_most_where_there_are_most_counts():
    x = torch.cat((torch.full((1, 1, 32, 32), 0.1), torch.full((1, 1, 32, 32), 1.0)), dim=-1)
    given = Denoise(0.05, "poisson")(x, torch.ones(1), torch.Generator().manual_seed(4), None).measurement
    found = zero_shot(model(-1.0), "denoise").run(given, noise=1.0, shifts=4)
    gains = [(given.start - found)[..., half].square().mean().sqrt() for half in (slice(4, 28), slice(36, 60))]
    assert float(gains[0]) < 0.6 * float(gains[1])
    assert float((found - x).square().mean()) < float((given.start - x).square().mean())


@pytest.mark.parametrize("task", TASKS)
def test_what_is_tried_can_be_run(task):
    name = next(name for name, (own, _) in MEASURED.items() if own == task)
    given = measured(name, images(1))[1].measurement
    method = zero_shot(model(), task)
    assert method.tuned and method.grid == GRIDS[task] and method.name == ZERO_SHOT
    assert method.run(given, **min(method.grid, key=lambda params: params.get("steps", 0))).isfinite().all()


def test_from_the_training_of_the_prior_to_scores(tmp_path):
    config = study(
        tmp_path,
        "inpaint",
        {"crop": [24, 16]},
        **{
            "restore.zero_shot": "prior-r1-s1",
            "generative": {
                "data": {"size": [24, 20]},
                "budget": "3 steps",
                "rates": [1],
                "systems": {"prior": {"kind": "wavelet", "widths": [4, 4], "blocks": 0, "refine": "none"}},
            },
        },
    )
    assert stages.weights_of(config, "inpaint", "tv") == []
    assert stages.weights_of(config, "inpaint", "unet") == [paths.model(config.root, "inpaint", "unet")]
    assert stages.weights_of(config, "inpaint", ZERO_SHOT) == [paths.generative_model(config.root, "prior-r1-s1")]
    assert stages.methods_of(config, "inpaint")[ZERO_SHOT] == "ours"
    stages.train_generative(config, "prior-r1-s1", 1)
    stages.restore(config, "inpaint", ZERO_SHOT, 1)
    record = json.loads(paths.record(config.root, "inpaint", ZERO_SHOT).read_text())
    assert record["details"]["model"] == "prior-r1-s1" and record["details"]["steps"] == 3
    assert record["details"]["params"] in [dict(params) for params in GRIDS["inpaint"]]
    assert len(record["details"]["tuning"]) == len(GRIDS["inpaint"])


def test_an_edit_of_the_method_restores_again_by_it_alone():
    code = provenance.stage_code("restore", ZERO_SHOT)
    assert code not in (provenance.stage_code("restore", "tv"), provenance.stage_code("restore", "unet"))
    assert code == provenance.code_digest("medwvae.restore", "medwvae.zero_shot", "medwvae.baselines.tuning")
