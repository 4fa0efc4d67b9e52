"""The training loop: one for every network, by seconds or by steps, resumable to the bit (steps, CPU)."""

import copy
import csv
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from medwvae import checkpoint
from medwvae.data.loaders import Case, Sampler, class_of
from medwvae.degradation import Degradation, Mixture, Neighbourhoods, Simulated
from medwvae.errors import TrainingError
from medwvae.files import atomic
from medwvae.load import Load
from medwvae.losses import LOSSES
from medwvae.names import GenerativeLossName, OptimiserName
from medwvae.nets.restorer import SCALE_RATE, Restorer
from medwvae.operators import magnitude
from medwvae.optimisers import Muon, is_matrix
from medwvae.parallel import launched, random_states, restore_random_states
from medwvae.precision import best_precision, exact_float32
from medwvae.progress import say
from medwvae.seeding import seed_for
from medwvae.self_supervision import SelfSupervised, held_loss, held_ratio
from medwvae.supply import Supply
from medwvae.volumetric import as_volumes, to_volume

RECORDS = 100
"""Rows of the history over a whole budget."""


@dataclass(frozen=True)
class Settings:
    """How to train; see configs/default.yaml for each field's meaning."""

    seconds: float | None
    steps: int | None
    batch: int
    learning_rate: float
    weight_decay: float
    warmup: float
    clip: float
    ema: float
    validations: int
    patience: int
    loss: GenerativeLossName
    checkpoint_seconds: float
    seed: int
    optimiser: OptimiserName = "adamw"
    matrix_rate: float = 1.0
    precision: str = "32-true"
    accelerator: str = "cpu"
    devices: int = 1
    nodes: int = 1
    accumulate: int = 1
    deterministic: bool = False

    @property
    def images_per_step(self) -> int:
        """Slices or patches of a step, of all parts and all processes."""
        return self.batch * self.accumulate * self.devices * self.nodes


@dataclass
class Progress:
    """Where a training stands; everything in it is saved and comes back on resume."""

    step: int = 0
    seconds: float = 0.0
    best: float = -math.inf
    stale: int = 0
    records: int = 0
    validations: int = 0
    done: bool = False
    history: list[dict[str, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    """Of the steps since the newest row of the history."""


Report = Callable[[float, dict[str, float]], None]
"""Called after every step with the fraction of the budget that is spent and the newest figures."""


Score = Callable[[Callable[[Any], Any], torch.device], float]
"""Called with a model in evaluation mode and its device; the larger its answer, the better the model."""


class Validation:
    """Fixed degraded slices of the validation subjects; the score is the mean PSNR inside the head over subjects.

    The slices of a `Mixture` take turns at its settings, from one subject to the next. Of a self-supervised degradation
    the score is the ratio of what was held out to the error there, in dB too; no clean image is read.

    Parameters
    ----------
    classes : sequence of str
        Contrasts that a label can name (`SliceSampler.classes`); more than one for models that read labels.
    depth : int, optional
        For networks on volumes: so many neighbouring slices from the middle of each head, in place of `slices`.

    Raises
    ------
    InputError
        If a volume has a contrast that is none of several classes.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        degrade: Degradation,
        slices: int,
        seed: int,
        classes: Sequence[str] = (),
        depth: int | None = None,
    ) -> None:
        per_case = max(1, slices // len(cases))
        settings = degrade.settings if isinstance(degrade, Mixture) else (degrade,)
        self.items: list[tuple[str, Simulated, Tensor, float]] = []
        for place, case in enumerate(cases):
            tissue = torch.from_numpy(case.prepared.tissue_slices())
            # Midpoints of equal stretches: inside the head, away from its ends.
            chosen = tissue[((torch.arange(per_case) + 0.5) / per_case * len(tissue)).long()]
            if depth is not None:
                have = len(case.prepared.image)  # at the border they move inwards
                first = min(max(int(tissue[len(tissue) // 2]) - depth // 2, 0), max(have - depth, 0))
                chosen = torch.arange(first, min(first + depth, have))
            generator = torch.Generator().manual_seed(seed_for(seed, "validation", case.subject, case.volume))
            turns = (torch.arange(len(chosen)) + place * len(chosen)) % len(settings)
            if depth is not None:  # all slices of a volume are one acquisition
                turns = torch.full((len(chosen),), place % len(settings))
            for turn, setting in enumerate(settings):
                own = chosen[turns == turn]
                if not len(own):
                    continue
                count = setting.count if isinstance(setting, Neighbourhoods | SelfSupervised) else 0
                simulated = setting(case.slices(count)[own], case.maximum(), generator, None)
                if len(classes) > 1:
                    label = torch.full((len(own),), class_of(case, classes))
                    simulated = replace(simulated, measurement=replace(simulated.measurement, label=label))
                head = torch.from_numpy(case.prepared.head)[own][:, None]
                if depth is not None:
                    simulated = Simulated(as_volumes([simulated.measurement]), to_volume(simulated.truth))
                    head = to_volume(head)
                self.items.append((case.subject, simulated, head, case.prepared.maximum))

    @property
    def measure(self) -> str:
        """Column of the history that holds the score: `val_psnr`, or `val_held` without clean images."""
        return "val_psnr" if all(simulated.held is None for _, simulated, *_ in self.items) else "val_held"

    def __call__(self, model: Callable[[Any], Any], device: torch.device) -> float:
        """Mean PSNR in dB of a model's answers (range: the volume's maximum)."""
        scores: dict[str, list[float]] = {}
        for subject, simulated, head, maximum in self.items:
            with torch.no_grad():
                image = model(simulated.measurement.to(device)).image.cpu().float()
            if simulated.held is not None:
                scores.setdefault(subject, []).append(10 * math.log10(held_ratio(image, simulated.held)))
                continue
            error = (magnitude(image) - magnitude(simulated.truth))[head].square().mean()
            scores.setdefault(subject, []).append(float(10 * torch.log10(maximum**2 / error)))
        return sum(sum(s) / len(s) for s in scores.values()) / len(scores)


def learning_rate_at(fraction: float, peak: float, warmup: float) -> float:
    """Linear warm-up over the first `warmup` of the budget, then a cosine to zero."""
    if fraction < warmup:
        return peak * max(fraction / warmup, 0.01)
    return peak * 0.5 * (1 + math.cos(math.pi * min((fraction - warmup) / (1 - warmup), 1.0)))


def train(
    build: Callable[[], Restorer],
    sampler: Sampler,
    degrade: Degradation,
    validation: Score,
    settings: Settings,
    state_dir: Path,
    report: Report = lambda fraction, figures: None,
    writer: Any = None,
) -> tuple[dict[str, Tensor], Progress, str]:
    """Train a network and return its best averaged weights, the history and the precision used.

    Parameters
    ----------
    build : callable
        Makes the network; called after the seed is set, so that the initial weights follow from it.
    state_dir : Path
        Holds `last.ckpt`: where it exists, training goes on from there. Delete it to start afresh.
    writer : SummaryWriter, optional
        Receives the history as TensorBoard scalars.

    Raises
    ------
    TrainingError
        If the loss, its gradient or the validation score is not finite; `last.ckpt`, written at least at every
        validation, then still holds the last good state.

    Several devices train data-parallel (DDP): `batch` is per rank, every rank draws from its share of the volumes and
    by a seed of its own, and the state holds where each rank's draws stand. Of each `accumulate` parts of a batch the
    gradients are averaged before a step: `accumulate` parts of `batch` slices are one batch of as many times more.
    """
    if settings.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts
        torch.use_deterministic_algorithms(True)
    precision = best_precision(settings.accelerator) if settings.precision == "auto" else settings.precision
    exact_float32(precision)
    fabric = launched(settings.accelerator, precision, settings.devices, settings.nodes)
    parallel = fabric.world_size > 1
    share = (fabric.global_rank, fabric.world_size)
    torch.manual_seed(seed_for(settings.seed, "weights") % 2**63)
    module = build()
    optimiser = Muon(_groups(module, settings), lr=settings.learning_rate)
    progress = Progress()
    averaged = copy.deepcopy(module).to(fabric.device)
    model, optimiser = fabric.setup(module, optimiser)
    loss_of = LOSSES[settings.loss]
    generator = torch.Generator().manual_seed(seed_for(settings.seed, "slices", fabric.global_rank))
    torch.manual_seed(seed_for(settings.seed, "latent noise", fabric.global_rank) % 2**63)

    scaler = getattr(fabric.strategy.precision, "scaler", None)  # fp16 only

    best = _weights(averaged)
    last = state_dir / "last.ckpt"
    # One rank reads it for all: a shared disk may not yet show it to another, or show it an older one.
    state = fabric.broadcast(checkpoint.load(last) if fabric.global_rank == 0 and last.exists() else None)
    if state is not None:
        if state["precision"] != precision:
            raise TrainingError(
                f"{last} is of a training in {state['precision']}, but on this machine it would go on in {precision}; "
                "go on where it began, or set train.precision to what all machines have, which starts afresh"
            )
        try:
            module.load_state_dict(state["model"])
        except RuntimeError as error:
            raise TrainingError(
                f"{last} is of a network that this version builds otherwise; delete it, and training starts afresh"
            ) from error
        averaged.load_state_dict(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        restore_random_states(fabric, generator, state["random"], last)
        progress, best = Progress(**state["progress"]), state["best"]
        say(f"training goes on from step {progress.step}")
        if scaler is not None:
            scaler.load_state_dict(state["scaler"])

    def measured(generator: torch.Generator) -> Simulated:
        drawn = sampler.draw(settings.batch * settings.accumulate, generator, share)
        simulated = degrade(drawn.images, drawn.maxima, generator, 1)
        return replace(simulated, measurement=replace(simulated.measurement, label=drawn.labels))

    supply, load = Supply(measured, generator, fabric.device), Load(fabric.device)

    def save() -> None:
        random = random_states(fabric, supply.state())
        if fabric.global_rank == 0:
            state = {
                "model": module.state_dict(),
                "averaged": averaged.state_dict(),
                "optimiser": optimiser.state_dict(),
                "random": random,
                "best": best,
                "precision": precision,
                "progress": vars(progress),
                "scaler": {} if scaler is None else scaler.state_dict(),
            }
            checkpoint.save(last, state)

    measure = getattr(validation, "measure", "val_psnr")
    saved = time.monotonic()
    while not progress.done:
        started = time.monotonic()
        model.train()
        spent = _fraction(progress, settings)
        rate = learning_rate_at(spent, settings.learning_rate, settings.warmup)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        simulated = supply.batch()
        optimiser.zero_grad(set_to_none=True)
        total, terms = torch.zeros((), device=fabric.device), dict[str, Tensor]()
        # On a card they are copied beside its work, and live until the loss is read, which waits for its end.
        whole, given = supply.lanes.upload(simulated.truth), supply.lanes.upload(simulated.measurement)
        for part in range(settings.accumulate):
            rows = slice(part * settings.batch, (part + 1) * settings.batch)
            truth, measurement = whole[rows], given[rows] if settings.accumulate > 1 else given
            with fabric.no_backward_sync(model, enabled=parallel and part + 1 < settings.accumulate):
                estimate = model(measurement, truth)
                if estimate.loss is not None:
                    loss = estimate.loss
                elif simulated.held is not None:
                    loss = held_loss(estimate.image, simulated.held[rows].to(fabric.device)) + estimate.penalty
                else:
                    loss = loss_of(estimate.image, truth) + estimate.penalty
                loss = loss / settings.accumulate
                fabric.backward(loss)
            total += loss.detach()
            for name, term in estimate.terms.items():
                terms[name] = terms.get(name, 0.0) + term / settings.accumulate
        value = float(fabric.all_reduce(total) if parallel else total)
        if not math.isfinite(value):
            raise _not_finite(f"loss became {value}", progress.step, last)
        norm = fabric.clip_gradients(model, optimiser, max_norm=settings.clip, error_if_nonfinite=False)
        if precision != "16-mixed" and norm is not None and not math.isfinite(norm):  # fp16's scaler skips such a step
            raise _not_finite(f"gradient became {float(norm)}", progress.step, last)
        optimiser.step()
        _follow(averaged, module, settings.ema, progress.step)
        progress.step += 1
        progress.seconds += time.monotonic() - started  # validation and checkpoints do not eat the budget
        due = time.monotonic() - saved > settings.checkpoint_seconds
        if parallel:  # one clock for all ranks: they must agree on the rate, on the end and on when to save
            progress.seconds, due = fabric.broadcast((progress.seconds, due))
        progress.losses.append(value)

        spent = _fraction(progress, settings)
        figures = {
            "loss": sum(progress.losses) / len(progress.losses),
            "images_per_s": progress.step * settings.images_per_step / progress.seconds,
        }
        if simulated.truth.ndim == 5:
            figures["voxels_per_s"] = figures["images_per_s"] * simulated.truth[0, 0].numel()
        if spent * settings.validations >= progress.validations + 1 or spent >= 1:
            progress.validations = int(spent * settings.validations)
            score = fabric.broadcast(_validate(fabric, averaged, validation))  # nodes may round differently
            if not math.isfinite(score):
                raise _not_finite(f"validation score became {score}", progress.step, last)
            figures[measure] = score
            progress.stale += 1
            if score > progress.best:
                progress.best, progress.stale, best = score, 0, _weights(averaged)
            progress.done = spent >= 1 or 0 < settings.patience <= progress.stale
        if spent * RECORDS >= progress.records + 1 or measure in figures:
            progress.records = int(spent * RECORDS)
            row = {"step": float(progress.step), "seconds": progress.seconds, "lr": rate, **figures}
            row |= {name: float(term) for name, term in terms.items()}
            row |= {f"s/{band}": s for band, s in module.scales().items()}
            progress.history.append(row)
            progress.losses = []
            if writer is not None:
                for name, number in row.items():
                    writer.add_scalar(name, number, progress.step)
        report(min(spent, 1.0), {**figures, **load.figures(), "best": progress.best})
        if measure in figures or due:
            save()
            saved = time.monotonic()
    return best, progress, precision


def write_history(path: Path, history: Sequence[dict[str, float]]) -> None:
    """Write the history as CSV; a cell is empty where a row has no such figure."""
    columns = list(dict.fromkeys(name for row in history for name in row))
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{value:.8g}" for name, value in row.items()} for row in history)


def _groups(module: Restorer, settings: Settings) -> list[dict[str, Any]]:
    """Decay convolution kernels only: on a bias it is useless, and on log s it would pull the noise scale towards 1.

    `factor` multiplies the learning rate of a group.
    """
    scales, predictors = module.log_scales(), {id(p) for p in module.scale_predictors()}
    kernels = [p for p in module.parameters() if p.ndim > 2]
    matrices = [p for p in kernels if settings.optimiser == "muon" and is_matrix(p) and id(p) not in predictors]
    others = [p for p in module.parameters() if p.ndim <= 2 and all(p is not scale for scale in scales)]
    kernels = [p for p in kernels if all(p is not matrix for matrix in matrices)]
    decay, none = {"weight_decay": settings.weight_decay}, {"weight_decay": 0.0}
    groups: list[dict[str, Any]] = [
        {"params": matrices, **decay, "factor": settings.matrix_rate, "orthogonal": True},
        {"params": kernels, **decay, "factor": 1.0},
        {"params": others, **none, "factor": 1.0},
        {"params": scales, **none, "factor": SCALE_RATE},
    ]
    return [group for group in groups if group["params"]]


def _fraction(progress: Progress, settings: Settings) -> float:
    if settings.steps is not None:
        return progress.step / settings.steps
    return progress.seconds / cast(float, settings.seconds)


@torch.no_grad()
def _follow(averaged: torch.nn.Module, module: torch.nn.Module, decay: float, steps: int) -> None:
    """Move an exponential moving average of the weights; its memory grows with the `steps` done before.

    So early weights are forgotten, and the first are taken as they are. PyTorch's `AveragedModel` counts on the device
    how often it was called: on a card every step would wait for that number.
    """
    kept = 0.0 if steps == 0 else min(decay, (1 + steps) / (10 + steps))
    torch._foreach_lerp_(list(averaged.parameters()), list(module.parameters()), 1 - kept)
    for mean, value in zip(averaged.buffers(), module.buffers(), strict=True):
        mean.copy_(value)


def _not_finite(what: str, step: int, last: Path) -> TrainingError:
    where = f"last good weights: {last}" if last.exists() else "no checkpoint was written yet"
    return TrainingError(
        f"the {what} at step {step}; lower train.learning_rate or set train.precision=32-true, "
        f"and delete the state's folder to start afresh ({where})"
    )


def _weights(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def _validate(fabric: Any, module: torch.nn.Module, validation: Score) -> float:
    module.eval()
    # Latent noise of a module in training mode must not depend on when validation ran: `eval` draws none.
    with fabric.autocast():
        return validation(module, fabric.device)
