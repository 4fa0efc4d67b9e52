"""One model of the study, scored: per test subject, as a whole, and what it looks like."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medwvae.anatomy import three_slices
from medwvae.generative import likelihood
from medwvae.generative.images import Images
from medwvae.generative.likelihood import Quantisation, on_device
from medwvae.generative.reconstruction import Score, per_subject, reconstructed, score_details, score_reconstruction
from medwvae.nets.latent import LatentModel
from medwvae.seeding import seed_for

if TYPE_CHECKING:
    from medwvae.fidelity.features import Features

EXAMPLES: Final = 4
"""Test images whose reconstruction is kept for the report: the middle ones of the first volumes."""
LEAST: Final = 4
"""Images of a kind whose distributions are compared: precision and recall look at the third neighbour."""


@dataclass(frozen=True)
class Settings:
    """How to score; see `generative.fidelity` in configs/default.yaml."""

    features: "Features"
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
        Arrays (n, H, W), or (n, H, W, 3) in colour, by name: `samples`, `neighbours` (the training image nearest to
        each sample), `truths`, `reconstructions`. Of volumes, their three middle slices (`anatomy.three_slices`).
    """

    scores: list[Score] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, NDArray[np.float32]] = field(default_factory=dict)


def score_model(model: LatentModel, test: Images, train: Images, settings: Settings) -> Scored:
    """Score a model on test images; training images serve as candidates for the nearest neighbours only.

    A model with classes is told the class of every image, and its samples have the classes of test images drawn anew.
    """
    test = test if model.classes else replace(test, labels=None)
    answer = reconstructed(model, test.values, settings.batch, test.labels)
    examples = _examples(test)
    found = Scored(score_reconstruction(test, answer) + score_details(test, answer))
    found.facts = sizes(model, test.shape)
    found.pictures = {"truths": _pixels(test.values[examples]), "reconstructions": _pixels(answer[examples])}
    _score_likelihood(found, model, test, settings)
    found.facts |= _compared("reconstruction", test, answer, settings)
    _score_samples(found, model, test, train, settings)
    return found


def score_references(test: Images, train: Images, settings: Settings) -> dict[str, Scored]:
    """Score what the models are held against: lossless codecs, and training images in the place of samples.

    Codecs code every channel of a colour image on its own, and every slice of a volume (across R), and their bits are
    those per value.
    """
    from medwvae.fidelity.codecs import CODECS, codec_bits

    references: dict[str, Scored] = {}
    integers = settings.quantisation.integers(test.values)
    for codec in CODECS:
        bits = torch.tensor([codec_bits(image, codec) for image in integers])
        references[codec] = Scored(per_subject(test, "bits", bits, "bit"))
    generator = torch.Generator().manual_seed(seed_for(settings.seed, "training images"))
    some = torch.randperm(len(train), generator=generator)[: settings.draws]
    references["training_images"] = Scored(facts=_compared("sample", test, train.values[some], settings))
    return references


def sizes(model: LatentModel, size: tuple[int, ...]) -> dict[str, Any]:
    """Return the number of latent values, of parameters that learn, and of those that the posterior depends on."""
    from medwvae.nets.diffusion_prior import DiffusionPrior  # MONAI's networks, which the report has no use for

    if isinstance(model, DiffusionPrior):
        prior = sum(p.numel() for p in model.diffusion.unet.parameters())
        return sizes(model.model, size) | {"prior_parameters": prior}
    return {
        "latent_values": model.latent_values(size),
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "encoder_parameters": sum(p.numel() for p in _of_encoder(model, size)),
    }


def _of_encoder(model: LatentModel, size: tuple[int, ...]) -> list[Tensor]:
    device = model.log_sigma.device
    label = torch.zeros(1, dtype=torch.int64, device=device) if model.classes else None
    posterior = model.encode(torch.zeros(1, model.channels, *size, device=device), label)
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
    distortion, rate = likelihood.bounds(model, images, generator, settings.batch, test.labels)
    found.scores += per_subject(test, "nats", distortion + rate, "nat")
    found.scores += per_subject(test, "rate", rate, "nat")
    found.scores += per_subject(test, "bits", likelihood.bits(distortion + rate, images, quantisation), "bit")
    some = torch.linspace(0, len(test) - 1, min(settings.importance_images, len(test))).round().long()
    own = None if test.labels is None else test.labels[some]
    weighted = likelihood.importance_bound(
        model, images[some], generator, settings.importance_draws, settings.batch, own
    )
    found.facts |= {
        "importance_images": len(some),
        "importance_draws": settings.importance_draws,
        "bits_of_bound_there": float(likelihood.bits((distortion + rate)[some], images, quantisation).mean()),
        "bits_importance_weighted": float(likelihood.bits(weighted, images, quantisation).mean()),
    }


def _score_samples(found: Scored, model: LatentModel, test: Images, train: Images, settings: Settings) -> None:
    """Add what samples are like, where the model can be sampled."""
    from medwvae.fidelity.memorisation import memorisation

    generator = torch.Generator().manual_seed(seed_for(settings.seed, "samples"))
    if not model.can_draw:
        return
    count, size = max(settings.draws, settings.shown), test.shape
    labels = None if test.labels is None else test.labels[torch.randint(len(test), (count,), generator=generator)]
    samples = drawn(model, count, size, generator, settings.batch, labels)
    found.facts["finite_samples"] = bool(samples.isfinite().all())
    if not found.facts["finite_samples"]:
        return
    found.facts |= _compared("sample", test, samples[: settings.draws], settings)
    shown = samples[: settings.shown]
    remembered = memorisation(shown, test.values, train.values)
    found.facts |= {"neighbour_ratio": float(remembered.ratio.median()), "copies": remembered.copies}
    found.pictures |= {"samples": _pixels(shown), "neighbours": _pixels(train.values[remembered.samples.index])}


@torch.no_grad()
def drawn(
    model: LatentModel,
    count: int,
    size: tuple[int, ...],
    generator: torch.Generator,
    batch: int,
    labels: Tensor | None = None,
) -> Tensor:
    """Return samples (count, C, *size) of the given classes on the CPU."""
    device = model.log_sigma.device
    own = on_device(device, generator)
    found = []
    for start in range(0, count, batch):
        share = min(batch, count - start)
        label = None if labels is None else labels[start : start + share].to(device)
        found.append(model.sample(share, size, own, label).float().cpu())
    return torch.cat(found)


def _compared(what: str, test: Images, images: Tensor, settings: Settings) -> dict[str, float]:
    """Return distances and overlaps of other images and the test images, named after what these are.

    Nothing where there are fewer than `LEAST` of either.
    """
    from medwvae.fidelity.compare import compare

    if min(len(test), len(images)) < LEAST:
        return {}
    found = compare(test.values, images, settings.features, data_range=settings.quantisation.top, dims=test.dims)
    return {f"{what}_{name}": value for name, value in found.items()}


def _examples(images: Images) -> list[int]:
    places = [images.of(volume).tolist() for volume in dict.fromkeys(images.volumes)]
    return [place[len(place) // 2] for place in places[:EXAMPLES]]


def _pixels(images: Tensor) -> NDArray[np.float32]:
    if images.ndim == 5:
        return three_slices(images[:, 0].float().numpy())
    return (images[:, 0] if images.shape[1] == 1 else images.movedim(1, -1)).float().numpy()
