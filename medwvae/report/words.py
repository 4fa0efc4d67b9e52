"""Names, numbers and sentences as a reader of the report wants them; the summary in words first, losses included."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from medwvae.metrics.definitions import DEFINITIONS, definition
from medwvae.statistics import FEW, FEWEST, SIGNIFICANT

TASK_LABELS = {
    "superres": "Super-resolution",
    "denoise": "Denoising",
    "recon": "Sparse reconstruction",
    "ct": "Sparse-view CT",
    "inpaint": "Inpainting",
}
METHOD_LABELS = {
    "input": "Input",
    "wavelet_vae": "Wavelet-VAE (ours)",
    "conv_vae": "Conventional VAE",
    "unet": "U-Net (MONAI)",
    "dncnn": "DnCNN",
    "unrolled_unet": "Unrolled U-Net",
    "nlm": "NLM",
    "tv": "TV",
    "cs_wavelet": "Compressed sensing (wavelet)",
    "bayes_shrink": "BayesShrink",
    "bilateral": "Bilateral filter",
    "biharmonic": "Biharmonic inpainting",
    "bm3d": "BM3D",
    "bm4d": "BM4D",
    "zero_filled": "Zero-filled",
    "fbp": "Filtered back-projection",
    "sirt": "SIRT",
    "zero_shot": "Wavelet-VAE's prior, zero-shot",
}
CONTRAST_LABELS = {"t1w": "T1w", "t2w": "T2w", "flair": "FLAIR", "pdw": "PDw", "ct": "CT"}
METRIC_LABELS = {name: one.label for name, one in DEFINITIONS.items()}
REGION_LABELS = {"head": "in the head", "whole": "in the whole volume", "lesion": "in the lesions"}
KIND_LABELS = {
    "input": "what every method saw",
    "classical": "classical",
    "network": "network",
    "ours": "ours",
}


def label(name: str, labels: Mapping[str, str] = METHOD_LABELS) -> str:
    """Return the legible name; an unknown one is shown as it is spelled, with spaces."""
    return labels.get(name) or (name[:1].upper() + name[1:]).replace("_", " ")


def family(problem: str) -> str:
    """Return the task of a problem: `denoise`, also of its setting `denoise-s3`."""
    return problem.partition("-")[0]


def task_label(problem: str) -> str:
    """Return 'Denoising', and 'Denoising s3' of the setting `denoise-s3`."""
    return f"{label(family(problem), TASK_LABELS)} {problem.partition('-')[2]}".rstrip()


def number(value: float | None, metric: str, *, sign: bool = False) -> str:
    """Return a metric's value with as many decimals as it deserves; infinite (a perfect PSNR) is ∞."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:+.{definition(metric).decimals}f}" if sign else f"{value:.{definition(metric).decimals}f}"
    return (text.lstrip("+-") if float(text) == 0 else text).replace("-", "−")


def p_value(p: float | None) -> str:
    """Return 'p = .031' or 'p < .001'; '' if there was no test."""
    if p is None or math.isnan(p):
        return ""
    return "p < .001" if p < 0.001 else f"p = {_fraction(p)}"


def _fraction(p: float) -> str:
    return "1" if p > 0.9995 else f"{p:.3f}".removeprefix("0")


def count(n: int, noun: str) -> str:
    """Return '1 subject', '8 subjects'."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun[:-1] + 'ies' if noun.endswith('y') else noun + 's'}"


def infinite(entry: Mapping[str, Any]) -> str:
    """Return 'exact (infinite) in 2 of 8 subjects' of a method's entry in the summary; '' if no value is."""
    return f"exact (infinite) in {entry['infinite']} of {count(entry['n'], 'subject')}" if entry["infinite"] else ""


def mean_of(entry: Mapping[str, Any], metric: str) -> str:
    """Return a method's mean as text; 'exact' only if every subject's value is infinite."""
    if not entry["infinite"]:
        return number(entry["mean"], metric)
    return "exact" if entry["infinite"] == entry["n"] else number(math.inf, metric)


def between(low: float | None, high: float | None, metric: str, *, sign: bool = False) -> str:
    """Return an interval as text; '' if there is none."""
    if low is None or high is None:
        return ""
    return f"{number(low, metric, sign=sign)} to {number(high, metric, sign=sign)}"


def of_few(subjects: int) -> str:
    """Return what intervals over so few subjects are worth; '' if there are enough."""
    if not 0 < subjects < FEW:
        return ""
    if subjects < FEWEST:
        return f"{count(subjects, 'test subject')}: no interval and no test; the numbers describe them alone."
    # No bound lies beyond the subjects, and at least 2^(1 − n) of all studies have all of them on one side of the mean.
    most = 100 * (1 - 2.0 ** (1 - subjects))
    held = "less often than in 95" if most > 95 else f"in at most {most:.0f}"
    return (
        f"{count(subjects, 'test subject')}: bootstrap intervals of so few are too narrow (a 95 % interval holds the "
        f"true mean {held} of 100 studies), and small differences cannot be told from chance."
    )


def listed(names: Sequence[str]) -> str:
    """Return 'a', 'a and b', 'a, b and c'."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def percent(share: float) -> str:
    """Return '75 %'."""
    return f"{100 * share:.0f} %"


def duration(seconds: float) -> str:
    """Return '42 s', '5 min 03 s' or '2 h 07 min'."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def verdict(task: Mapping[str, Any], reference: str, region: str, metric: str) -> str:
    """Return the outcome of one task in a few sentences: who is best, by how much, how sure.

    Parameters
    ----------
    task
        One entry of `summary()["tasks"]`.
    """
    block = task["regions"][region][metric]
    outcome, methods = block["verdict"], block["methods"]
    name, unit = label(metric, METRIC_LABELS), f" {block['unit']}" if block["unit"] else ""
    if outcome["outcome"] == "absent":
        best = outcome["best_rival"]
        if best is None:
            return f"{label(reference)} was not run, nor was any rival."
        value = f"{mean_of(methods[best], metric)}{unit} {name}"
        return f"{label(reference)} was not run. The best method was {label(best)} with {value}."
    ours = methods[reference]
    value = f"{number(ours['mean'], metric)}{unit} {name} {label(region, REGION_LABELS)}"
    sentences = [f"{label(reference)} reached {value}{_interval(ours['low'], ours['high'], metric)}."]
    if exact := infinite(ours):
        sentences = [f"{label(reference)} is {exact}: {name} {label(region, REGION_LABELS)} has no mean."]
    if outcome["outcome"] == "not comparable":
        rival = outcome["best_rival"]
        theirs = f"{label(rival)} is {infinite(methods[rival])}" if methods[rival]["infinite"] else ""
        why = theirs or ("" if exact else "the two have no subject in common")
        sentences.append(f"It is not comparable with {label(rival)}{': ' * bool(why)}{why}.")
    elif outcome["outcome"] == "alone":
        sentences.append("There is no rival to compare it with.")
    else:
        sentences += [_comparison(outcome, unit, metric), _certainty(outcome), _beside_classical(outcome)]
    if outcome["beats_input"] is False:
        sentences.append("It does not even improve on its own input.")
    return " ".join(filter(None, sentences))


def _comparison(outcome: Mapping[str, Any], unit: str, metric: str) -> str:
    rival, n, ahead, behind = (outcome[key] for key in ("best_rival", "n", "ahead", "behind"))
    low, high = outcome["low"], outcome["high"]
    if outcome["difference"] < 0 and low is not None:
        low, high = 0.0 - high, 0.0 - low  # as the difference itself: by how much one is ahead of the other
    by = f"{number(abs(outcome['difference']), metric)}{unit}{_interval(low, high, metric)}"
    return {
        "won": f"It beats the best rival, {label(rival)}, by {by}, better in {ahead} of {count(n, 'subject')}.",
        "ahead": f"It is ahead of the best rival, {label(rival)}, by {by}, better in {ahead} of {count(n, 'subject')}.",
        "level": f"It is level with the best rival, {label(rival)}.",
        "behind": f"It falls behind {label(rival)} by {by}, worse in {behind} of {count(n, 'subject')}.",
        "lost": f"It loses to {label(rival)} by {by}, worse in {behind} of {count(n, 'subject')}.",
    }[outcome["outcome"]]


def _beside_classical(outcome: Mapping[str, Any]) -> str:
    if outcome["outcome"] not in ("behind", "lost") or outcome["best_classical"] in (None, outcome["best_rival"]):
        return ""
    beats = outcome["beats_every_classical"]
    return "Its mean is better than every classical method's." if beats else "Even a classical method does better."


def _certainty(outcome: Mapping[str, Any]) -> str:
    p, floor = p_value(outcome["p_holm"]), outcome["p_holm_smallest"]
    differing, subjects = outcome["ahead"] + outcome["behind"], count(outcome["n"], "subject")
    of_them = subjects if differing == outcome["n"] else f"a difference in {differing} of {subjects}"
    number_of = f"{of_them} and {count(outcome['comparisons'], 'rival')}"
    if outcome["difference"] != 0 and not outcome["agree"] and outcome["p_holm"] < SIGNIFICANT:
        ranks = f"{outcome['rank_biserial']:+.2f}".replace("-", "−")
        return f"But mean and ranks disagree (rank-biserial {ranks}, {p} after Holm): a few subjects make the mean."
    if outcome["outcome"] in ("won", "lost") and outcome["p_holm"] < SIGNIFICANT:
        return f"The difference is unlikely to be chance ({p} after Holm)."
    if outcome["outcome"] == "won":
        every = f"That it is ahead of all {count(outcome['comparisons'], 'rival')} is unlikely to be chance"
        return f"{every} ({p_value(outcome['p_every'])}, the largest of the single tests; {p} after Holm)."
    if floor >= SIGNIFICANT:
        return f"This proves nothing yet ({p}): with {number_of} the test cannot give a p below {_fraction(floor)}."
    return f"The difference may be chance ({p} after Holm)."


def _interval(low: float | None, high: float | None, metric: str) -> str:
    return f" [{within}]" if (within := between(low, high, metric)) else ""
