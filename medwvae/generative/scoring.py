"""One model of the study, scored: per test subject, as a whole, and what it looks like."""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.generative import distribution, likelihood
from medwvae.generative.images import Images
from medwvae.generative.likelihood import Quantisation
from medwvae.generative.reconstruction import Score, per_subject, reconstructed, score_reconstruction
from medwvae.nets.latent import LatentModel
from medwvae.seeding import seed_for

CODECS: Final = ("jpeg2000", "jpeg_ls", "png")
EXAMPLES: Final = 4
"""Test slices whose reconstruction is kept for the report: the middle ones of the first volumes."""


@dataclass(frozen=True)
class Settings:
    """How to score; see `generative.fidelity` in configs/default.yaml."""

    quantisation: Quantisation
    draws: int
    shown: int
    importance_draws: int
    importance_images: int
    batch: int
    seed: int


@dataclass
class Scored:
    """What is known of one model.

    Attributes
    ----------
    scores : list of Score
        Per test subject.
    facts : dict
        Numbers of the model as a whole; None where one is not defined.
    pictures : dict
        Arrays (n, H, W) by name: `samples`, `neighbours` (the training image nearest to each sample), `truths`,
        `reconstructions`.
    """

    scores: list[Score] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, NDArray[np.float32]] = field(default_factory=dict)


def score_model(model: LatentModel, test: Images, train: Images, settings: Settings) -> Scored:
    """Score a model on test images; training images serve as candidates for the nearest neighbours only."""
    answer = reconstructed(model, test.values, settings.batch)
    examples = _examples(test)
    found = Scored(score_reconstruction(test, answer))
    found.scores += [s for band, kept in energy(answer, test.values).items() for s in per_subject(test, band, kept, "")]
    found.facts = sizes(model, tuple(test.values.shape[2:]))
    found.pictures = {"truths": _pixels(test.values[examples]), "reconstructions": _pixels(answer[examples])}
    _score_likelihood(found, model, test, settings)
    found.facts |= {f"reconstruction_{name}": value for name, value in distribution.compared(test.values, answer).items()}
    _score_samples(found, model, test, train, settings)
    return found


def score_references(test: Images, train: Images, settings: Settings) -> dict[str, Scored]:
    """Score what the models are held against: lossless codecs, and training images in the place of samples."""
    from medwvae.fidelity.codecs import bits_per_pixel

    references: dict[str, Scored] = {}
    integers = settings.quantisation.integers(test.values[:, 0])
    for codec in CODECS:
        bits = torch.tensor([bits_per_pixel(image, codec) for image in integers])
        references[codec] = Scored(per_subject(test, "bits", bits, "bit"))
    generator = torch.Generator().manual_seed(seed_for(settings.seed, "training images"))
    some = torch.randperm(len(train), generator=generator)[: settings.draws]
    compared = distribution.compared(test.values, train.values[some])
    references["training_images"] = Scored(facts={f"sample_{name}": value for name, value in compared.items()})
    return references


def sizes(model: LatentModel, size: tuple[int, ...]) -> dict[str, int]:
    """Return the number of latent values, of parameters that learn, and of those that the posterior depends on."""
    return {
        "latent_values": model.latent_values(size),
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "encoder_parameters": sum(p.numel() for p in _of_encoder(model, size)),
    }


def _of_encoder(model: LatentModel, size: tuple[int, ...]) -> list[Tensor]:
    posterior = model.encode(torch.zeros(1, model.channels, *size, device=model.log_sigma.device))
    outputs = [part.sum() for part in (*posterior.mean, *posterior.scale) if part.requires_grad]
    learned = [p for p in model.parameters() if p.requires_grad]
    if not outputs:
        return []
    gradients = torch.autograd.grad(torch.stack(outputs).sum(), learned, allow_unused=True)
    return [p for p, gradient in zip(learned, gradients, strict=True) if gradient is not None]


def _score_likelihood(found: Scored, model: LatentModel, test: Images, settings: Settings) -> None:
    """Add nats and bits per voxel of the bound, and the importance-weighted bound on some images."""
    if not likelihood.defined(model):
        return
    quantisation = settings.quantisation
    generator = torch.Generator().manual_seed(seed_for(settings.seed, "dequantisation"))
    images = quantisation.dequantised(test.values, generator)
    distortion, rate = likelihood.bounds(model, images, generator, settings.batch)
    found.scores += per_subject(test, "nats", distortion + rate, "nat")
    found.scores += per_subject(test, "rate", rate, "nat")
    found.scores += per_subject(test, "bits", likelihood.bits(distortion + rate, images, quantisation), "bit")
    some = torch.linspace(0, len(test) - 1, min(settings.importance_images, len(test))).round().long()
    weighted = likelihood.importance_bound(
        model, images[some], generator, settings.importance_draws, settings.batch
    )
    found.facts |= {
        "importance_images": len(some),
        "importance_draws": settings.importance_draws,
        "bits_of_bound_there": float(likelihood.bits((distortion + rate)[some], images, quantisation).mean()),
        "bits_importance_weighted": float(likelihood.bits(weighted, images, quantisation).mean()),
    }


def _score_samples(found: Scored, model: LatentModel, test: Images, train: Images, settings: Settings) -> None:
    """Add what samples are like, where the model can be sampled."""
    generator = torch.Generator().manual_seed(seed_for(settings.seed, "samples"))
    if not model.can_draw:
        return
    count, size = max(settings.draws, settings.shown), tuple(test.values.shape[2:])
    samples = distribution.drawn(model, count, size, generator, settings.batch)
    found.facts["finite_samples"] = bool(samples.isfinite().all())
    if not found.facts["finite_samples"]:
        return
    compared = distribution.compared(test.values, samples[: settings.draws])
    found.facts |= {f"sample_{name}": value for name, value in compared.items()}
    shown = samples[: settings.shown]
    nearest, distances = distribution.nearest(shown, train.values)
    found.facts["neighbour_distance"] = float(distances.mean())
    found.pictures["samples"] = _pixels(shown)
    found.pictures["neighbours"] = _pixels(train.values[nearest])


def _examples(images: Images) -> list[int]:
    places = [images.of(volume).tolist() for volume in dict.fromkeys(images.volumes)]
    return [place[len(place) // 2] for place in places[:EXAMPLES]]


def _pixels(images: Tensor) -> NDArray[np.float32]:
    return images[:, 0].float().numpy()
