"""Missing pixels filled in by any model with a latent."""

from dataclasses import dataclass

import torch
from torch import Tensor

from medwvae.nets.latent import LatentModel
from medwvae.seeding import seed_for


@dataclass(frozen=True)
class Imputed:
    """A filled-in batch.

    Attributes
    ----------
    image : Tensor
        (B, C, *spatial), network units; known pixels as they came, to the last bit.
    deviation : Tensor or None
        Standard deviation of what may stand in each pixel, zero where it is known; None for a point estimate.
    accepted : float
        Share of the proposals that the Metropolis test took (1 without one).
    """

    image: Tensor
    deviation: Tensor | None
    accepted: float = 1.0


@torch.no_grad()
def impute(
    model: LatentModel,
    x: Tensor,
    known: Tensor,
    *,
    sweeps: int = 100,
    discard: int = 50,
    metropolis: bool = False,
    seed: int = 0,
    label: Tensor | None = None,
    start: Tensor | None = None,
) -> Imputed:
    """Fill in missing pixels by the Markov chain z ~ q(z | x), x_missing ~ p(x | z), known pixels put back each time.

    Rezende, Mohamed and Wierstra 2014, appendix F. The chain keeps to p(x_missing | x_known) as far as q(z | x) is the
    posterior; the Metropolis test of Mattei and Frellsen 2018 (algorithm 1) makes it so for any q that covers it, at
    the price of proposals that it refuses (in a large latent, most). The answer is the mean of p(x | z) over the later
    draws; its variance is theirs plus σ_x² (Gaussian likelihood; for other models, theirs alone).

    Parameters
    ----------
    x : Tensor
        (B, C, *spatial), network units; what stands in missing pixels is not read (it may be NaN).
    known : Tensor
        bool, True where x is known; *spatial, or (B or 1, C or 1, *spatial).
    sweeps, discard : int
        Steps of the chain, and how many of the first are left out of the answer.
    metropolis : bool
        Test each proposal; needs a model with a density.
    seed : int
        Image k of the batch is drawn from (`seed`, k) alone.
    label : Tensor, optional
        Class of each image, int64 (B,).
    start : Tensor, optional
        Images like x whose missing pixels the chain starts from, for example those of `impute_by_gradient`: in a large
        hole of a model with a local latent it moves slowly. By default the mean of the known pixels.

    Raises
    ------
    ValueError
        If an image has no known pixel, known pixels are not finite, the mask is not bool or has another shape, no
        sweep would be left, or the test lacks a density.
    """
    if not 0 <= discard < sweeps:
        raise ValueError(f"of {sweeps} sweeps, {discard} cannot be left out")
    if metropolis and not model.has_density:
        raise ValueError("the model has no density: Metropolis' test cannot be computed")
    known = checked(x, known)
    if bool(known.all()):
        return Imputed(x.clone(), torch.zeros_like(x))
    start = mean_filled(x, known) if start is None else torch.where(known, x, start)
    means, deviations, taken = [], [], 0.0
    for k in range(len(x)):
        generator = torch.Generator(x.device).manual_seed(seed_for(seed, "impute", k))
        own = None if label is None else label[k : k + 1]
        mean, deviation, accepted = _chain(
            model, start[k : k + 1].float(), known[k : k + 1], sweeps, discard, metropolis, generator, own
        )
        means.append(mean)
        deviations.append(deviation)
        taken += accepted / len(x)
    image = torch.where(known, x, torch.cat(means).to(x.dtype))
    return Imputed(image, torch.where(known, 0, torch.cat(deviations).to(x.dtype)), taken)


def impute_by_gradient(
    model: LatentModel,
    x: Tensor,
    known: Tensor,
    *,
    steps: int = 200,
    label: Tensor | None = None,
) -> Imputed:
    """Fill in missing pixels by the latent of largest density: arg max log p(x_known | z) + log p(z), then decode.

    L-BFGS with strong Wolfe line search from the posterior mean of the image with its hole filled by the known pixels'
    mean; image by image. A point estimate: no deviation.

    Parameters
    ----------
    x, known, label
        As for `impute`.
    steps : int
        At most so many iterations.

    Raises
    ------
    ValueError
        If the model has no density, or as `impute`.
    """
    if not model.has_density:
        raise ValueError("the model has no density: log p(x | z) + log p(z) cannot be computed; use the Markov chain")
    known = checked(x, known)
    if bool(known.all()):
        return Imputed(x.clone(), None)
    filled = [
        _best(model, x[k : k + 1], known[k : k + 1], steps, None if label is None else label[k : k + 1])
        for k in range(len(x))
    ]
    return Imputed(torch.where(known, x, torch.cat(filled).to(x.dtype)), None)


def mean_filled(x: Tensor, known: Tensor) -> Tensor:
    """Return images whose missing pixels hold the mean of the known ones of their image and channel."""
    axes = tuple(range(2, x.ndim))
    known = known.expand(x.shape)
    count = known.sum(axes, keepdim=True).clamp(min=1)
    mean = torch.where(known, x, 0).sum(axes, keepdim=True) / count
    return torch.where(known, x, mean)


def checked(x: Tensor, known: Tensor) -> Tensor:
    """Return the mask, broadcast to the images.

    Raises
    ------
    ValueError
        As `impute`.
    """
    if known.dtype != torch.bool:
        raise ValueError(f"the mask of known pixels has to be bool, got {known.dtype}")
    try:
        known = known.expand(x.shape)
    except RuntimeError:
        raise ValueError(f"a mask of shape {tuple(known.shape)} does not fit images {tuple(x.shape)}") from None
    if not bool(known.flatten(1).any(1).all()):
        raise ValueError("an image has no known pixel: there is nothing to fill it in from; draw samples instead")
    if not bool(torch.isfinite(x[known]).all()):
        raise ValueError("known pixels hold values that are not finite; mark them as missing")
    return known


def _chain(
    model: LatentModel,
    start: Tensor,
    known: Tensor,
    sweeps: int,
    discard: int,
    metropolis: bool,
    generator: torch.Generator,
    label: Tensor | None,
) -> tuple[Tensor, Tensor, float]:
    """Return mean and standard deviation of the later draws of one image, and the share of accepted proposals."""
    shape, device = tuple(start.shape[2:]), start.device
    noise = model.log_sigma.exp() if model.has_density and model.likelihood == "gaussian" else torch.zeros(())
    noise, current = noise.to(device), start
    z = model.encode(current, label).sample(generator)
    total = torch.zeros_like(current, dtype=torch.float64)
    squares, accepted = total.clone(), 0
    for sweep in range(sweeps):
        posterior = model.encode(current, label)
        proposal = posterior.sample(generator)
        if metropolis:
            old, new = (
                model.log_likelihood(current, model.decode(one, shape, label))
                + model.log_prior(one, label)
                - posterior.log_density(one)
                for one in (z, proposal)
            )
            chance = torch.rand((), generator=generator, device=device)
            if float(chance.log()) < float(new - old):
                z, accepted = proposal, accepted + 1
        else:
            z, accepted = proposal, accepted + 1
        image = model.decode(z, shape, label).float()
        drawn = image + noise * torch.randn(image.shape, generator=generator, device=device)
        current = torch.where(known, start, drawn)
        if sweep >= discard:
            total += image.double()
            squares += image.double().square()
    count = sweeps - discard
    mean = total / count
    variance = (squares / count - mean.square()).clamp(min=0) + noise.double().square()
    return mean, variance.sqrt(), accepted / sweeps


def _best(model: LatentModel, x: Tensor, known: Tensor, steps: int, label: Tensor | None) -> Tensor:
    shape = tuple(x.shape[2:])
    filled = mean_filled(x, known).float()
    with torch.no_grad():
        z = tuple(part.clone() for part in model.encode(filled, label).mean)
    for part in z:
        part.requires_grad_(True)
    optimiser = torch.optim.LBFGS(z, max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        image = model.decode(z, shape, label)
        # A missing pixel counts as one that is just as the model expects: no gradient comes from it. Taking off the
        # density of what agrees leaves that of the known pixels, up to a constant.
        agreeing = torch.where(known, filled, image.detach())
        density = model.log_likelihood(agreeing, image) - model.log_likelihood(agreeing, agreeing)
        loss = -(density + model.log_prior(z, label)).sum() / x.numel()
        torch.autograd.backward(loss, inputs=z)
        return loss

    with torch.enable_grad():
        optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return model.decode(z, shape, label).float()
