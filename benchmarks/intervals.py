"""Intervals: how often does the 95 % bootstrap interval of the mean hold the true mean, by the number of subjects.

Simulated studies, each interval by `medwvae.statistics.bootstrap_bounds` (SciPy's BCa), with as many resamples as the
report takes; ± is two standard errors of the simulation.
"""

import math
from collections.abc import Callable

import numpy as np
from _table import arguments, publish
from numpy.typing import NDArray
from scipy.optimize import brentq

from medwvae.statistics import FEW, RESAMPLES, bootstrap_bounds, expanded

SUBJECTS = (5, 6, 7, 8, 12, 20, 40, 80)
AT_ONCE = 500
"""Studies that share their resamples, as SciPy has it."""

Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]
LAWS: dict[str, tuple[float, Draw]] = {
    "normal": (0.0, lambda rng, shape: rng.normal(size=shape)),
    "gamma, shape 2": (2.0, lambda rng, shape: rng.gamma(2.0, size=shape)),
}


def share_held(law: str, subjects: int, studies: int, resamples: int, confidence: float) -> float:
    """Return the share of studies whose interval holds the true mean."""
    mean, draw = LAWS[law]
    rng, held = np.random.default_rng(subjects), 0
    for seed, start in enumerate(range(0, studies, AT_ONCE)):
        values = draw(rng, (min(AT_ONCE, studies - start), subjects))
        low, high = bootstrap_bounds(values, confidence=confidence, resamples=resamples, seed=seed)
        held += int(np.sum((low <= mean) & (mean <= high)))
    return held / studies


def unexpanded(level: float, subjects: int) -> float:
    """Return the confidence whose expanded level is this one."""
    return float(brentq(lambda confidence: expanded(confidence, subjects) - level, 0.5, level))


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--studies", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    parser.add_argument("--subjects", type=int, nargs="+", default=SUBJECTS)
    parser.add_argument("--plain", action="store_true", help="ask SciPy for 95 % itself, not for the expanded level")
    options = parser.parse_args()
    studies, resamples = (2000, 999) if options.quick else (options.studies, options.resamples)
    rows: list[dict[str, object]] = []
    claims: dict[str, float] = {}
    for law in LAWS:
        for subjects in options.subjects:
            confidence = unexpanded(0.95, subjects) if options.plain else 0.95
            held = share_held(law, subjects, studies, resamples, confidence)
            error = 2 * math.sqrt(held * (1 - held) / studies)
            rows.append({"values": law, "subjects": subjects, "held %": 100 * held, "±": 100 * error})
            if subjects >= FEW:
                claims[f"coverage_{law.partition(',')[0]}_{subjects}"] = held
    publish(rows, claims, options.json)


if __name__ == "__main__":
    main()
