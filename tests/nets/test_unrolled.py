"""DnCNN and the unrolled U-Net: what is published of them, and what ties them to the networks beside them."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from medwvae import build, train
from medwvae.config import Config
from medwvae.config_io import load
from medwvae.data.loaders import SliceSampler
from medwvae.degradation import Denoise, Inpaint, Neighbourhoods, Recon, SparseView
from medwvae.nets.dncnn import DnCNN
from medwvae.nets.unet import UNet
from medwvae.nets.unrolled_unet import INITIAL_WEIGHT, UnrolledUNet
from medwvae.nets.wavelet_vae import WaveletVAE
from medwvae.operators import Masking, Measurement
from medwvae.volumetric import volumetric
from tests.cases import case
from tests.test_train import SETTINGS

FEATURES = (4, 4, 4, 4, 4, 4)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(*shape, seed=0):
    return torch.rand(shape, generator=generator(seed))


def measured(degrade: Any, image, run: int | None = 1):
    return degrade(image, torch.ones(len(image)), generator(), run).measurement


def test_dncnn_is_as_published():
    # Zhang et al. 2017: 17 layers of 64 channels, batch norm in all but the first and the last.
    config = Config()
    model: Any = build.network(config, "superres", "dncnn")
    kinds = [type(layer) for layer in model.body]
    assert kinds.count(nn.Conv2d) == 17 and kinds.count(nn.BatchNorm2d) == 15 and kinds.count(nn.ReLU) == 16
    assert kinds[:4] == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.BatchNorm2d] and kinds[-1] is nn.Conv2d
    weights = sum(layer.weight.numel() for layer in model.body if isinstance(layer, nn.Conv2d))
    assert weights == 9 * (64 + 15 * 64 * 64 + 64)
    plain: Any = build.network(load(overrides=["networks.dncnn.normalise=false"]), "superres", "dncnn")
    assert nn.BatchNorm2d not in {type(layer) for layer in plain.body}


def test_one_round_is_the_u_net():
    torch.manual_seed(0)
    one, unet = UnrolledUNet(channels=2, features=FEATURES, rounds=1), UNet(channels=2, features=FEATURES)
    unet.body.load_state_dict(one.bodies[0].state_dict())
    given = measured(Recon(3, 0.15, "random", 0.5), images(2, 1, 19, 22))
    torch.testing.assert_close(one.eval()(given).image, unet.eval()(given).image)
    assert one.log_scales() == []  # no parameter that nothing reads


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_answers_are_put_on_exact_data_again_and_not_on_noisy_ones(noise):
    torch.manual_seed(0)
    given = measured(Recon(3, 0.15, "random", 0.5, noise=noise), images(2, 1, 16, 24), None)
    flips = ((), (-1,), (-2, -1))
    vae = WaveletVAE(channels=2, widths=(4, 4), blocks=1, rounds=2, noise="coefficient")
    unets = UNet(channels=2, features=FEATURES), UnrolledUNet(channels=2, features=FEATURES, rounds=2)
    for model in (*unets, vae):
        with torch.no_grad():
            for parameter in model.eval().parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
            answers = [model(given.flip(axes)).image.flip(axes) for axes in flips]
        mean = torch.stack(answers).mean(0)
        expected = mean if noise else given.project(mean)
        assert (given.project(mean) - mean).abs().max() > (1e-3 if noise else 0)
        torch.testing.assert_close(model.restore(given, flips), expected)
    spread = vae.restore_with_spread(given, flips, 3, lambda draw: images(2, 2, 16, 24, seed=draw))[0]
    torch.testing.assert_close(spread, expected)


def test_volumes_have_the_noise_of_their_acquisitions():
    volumes = images(2, 1, 6, 16, 24) * torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1, 1)
    degrade = volumetric(Recon(3, 0.15, "random", 0.5, noise=0.05))
    given: Any = degrade(volumes, torch.tensor([1.0, 3.0]), generator(), None).measurement
    torch.testing.assert_close(given.noise.flatten(), torch.tensor([0.05, 0.15]))
    assert given.noise.shape == (2, 1, 1, 1, 1)
    torch.testing.assert_close(given.conditions()[:, :1], given.noise)
    guess = torch.randn(given.start.shape, generator=generator(1))
    answer = given.project(guess)
    for own, slices, image in zip(answer, given.acquisitions, guess, strict=True):
        torch.testing.assert_close(own.movedim(1, 0), slices.project(image.movedim(1, 0)))
    assert given.averaged(answer) is answer
    torch.testing.assert_close(given[1:].noise, given.noise[1:])


def test_a_round_of_silent_networks_is_a_proximal_step():
    model = UnrolledUNet(features=FEATURES, rounds=3)
    for parameter in model.bodies.parameters():
        nn.init.zeros_(parameter)
    start = images(2, 1, 32, 16)
    operator = Masking(images(1, 1, 32, 16, seed=1) > 0.5)
    data = operator.forward(images(2, 1, 32, 16, seed=2))
    given = Measurement(start, operator, data)
    seen: list[float] = []

    class Watched(Measurement):
        def proximal(self, image, weight):
            seen.append(float(weight.detach()))
            return super().proximal(image, weight)

    image = model(Watched(start, operator, data)).image
    torch.testing.assert_close(image, given.project(start))
    assert seen == pytest.approx([INITIAL_WEIGHT] * 2)


@pytest.mark.parametrize("degrade", [Recon(3, 0.15, "random", 0.5), Inpaint(), SparseView(8)])
def test_the_weights_of_data_consistency_learn(degrade):
    torch.manual_seed(0)
    image = images(2, 1, 20, 18)
    simulated = degrade(image, torch.ones(2), generator(), 1)
    model = UnrolledUNet(channels=simulated.truth.shape[1], features=FEATURES, rounds=3, shared=True)
    assert len(model.bodies) == 1
    (model(simulated.measurement).image - simulated.truth).square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.log_weights is not None and model.log_weights.grad is not None
    assert (model.log_weights.grad != 0).all() and model.log_weights.grad.isfinite().all()


def test_rounds_are_for_tasks_with_data():
    config = load(overrides=["networks.unrolled_unet.rounds=4"])
    networks: dict[str, Any] = {task: build.network(config, task, "unrolled_unet") for task in ("denoise", "ct")}
    assert {task: len(network.bodies) for task, network in networks.items()} == {"denoise": 1, "ct": 4}


@pytest.mark.parametrize(
    "model", [DnCNN(neighbours=1, depth=3, width=4), UnrolledUNet(neighbours=1, features=FEATURES)]
)
def test_neighbours_are_read(model):
    given = measured(Neighbourhoods(Inpaint(), 1), images(2, 3, 18, 20))
    assert given.neighbours is not None
    other = replace(given, neighbours=2 * given.neighbours)
    assert not torch.equal(model.eval()(given).image, model(other).image)


@pytest.mark.parametrize(
    "model",
    [DnCNN(dims=3, channels=2, depth=3, width=4), UnrolledUNet(dims=3, channels=2, features=FEATURES, rounds=2)],
)
def test_volumes(model):
    given = measured(volumetric(Recon(3, 0.15, "random", 0.5)), images(1, 1, 17, 18, 20), None)
    image = model.eval()(given).image
    assert image.shape == (1, 2, 17, 18, 20)
    torch.testing.assert_close(given.project(image), image, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "build_", [lambda: DnCNN(conditions=1, depth=4, width=8), lambda: UnrolledUNet(conditions=1, features=FEATURES)]
)
def test_training_lowers_the_loss_and_validates_with_running_means(build_, tmp_path):
    degrade = Denoise(0.2)
    held = train.Validation([case("c", seed=2)], degrade, 3, seed=1)
    settings = train.Settings(**{**vars(SETTINGS), "steps": 40, "learning_rate": 1e-2})
    sampler = SliceSampler([case("a"), case("b", seed=1)], (24, 16))
    best, progress, _ = train.train(build_, sampler, degrade, held, settings, tmp_path)
    losses = [row["loss"] for row in progress.history]
    assert sum(losses[-5:]) / 5 < losses[0]
    model = build_()
    model.load_state_dict(best)
    again = held(model.eval(), torch.device("cpu"))
    assert again == pytest.approx(progress.best, abs=0.1)
