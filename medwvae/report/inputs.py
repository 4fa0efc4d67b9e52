"""What a report is made from: plain tables and paths."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from medwvae.report.generative import GenerativeInputs
from medwvae.report.uncertainty import IntervalInputs


@dataclass(frozen=True)
class ReportInputs:
    """All that a report shows.

    Attributes
    ----------
    run, title : name of the study and the page's headline.
    metrics : long format, see `medwvae.report.tables.summary`.
    manifest : one row per image found, see `medwvae.data.manifest`; none in a study of photographs. The status of
        usable ones that the study left out is `cohort.UNUSED`.
    splits : subject to train, val or test.
    histories : (task, network) to a table with the columns step, seconds, loss, val_psnr (NaN between validations),
        lr, images_per_s and, where noise scales are learned, `s/<subband>`.
    volumes : problem (task, or setting of one) to method to volume to restored NIfTI; the method "input" is what every
        method saw.
    truths, subjects, slice_axis : by volume: canonical NIfTI, its subject, the axis along which slices were restored.
    tuning : columns task (the problem), method, params, seconds: how classical methods were tuned on validation
        subjects.
    settings, protocols, durations : in plain words by problem and by protocol; seconds by rule.
    provenance : configuration, digests, versions, seeds, machine; nested as it comes.
    parameters : (task, network) to the number of parameters.
    uncertainties : as `volumes`, the maps of uncertainty that there are (same grid, unit of the volume): half the
        width of the intervals.
    intervals : problem to method to how its intervals were calibrated, of methods that have some.
    volume_scores : the metrics per volume, for subgroups. generative : the study of generative models, or None.
    reference : what every other method is compared with.
    figures_per_task : subjects shown per task (worst, median, best of `reference`, ...).
    viewer : whether the page holds the worst subject's volumes. ct_window : lowest and highest HU of pictures of CT.
    trained_elsewhere : where the networks come from, in a sentence, if they were not trained on these images; else ''.
    """

    run: str
    title: str
    metrics: pd.DataFrame
    manifest: pd.DataFrame
    splits: dict[str, str]
    histories: dict[tuple[str, str], pd.DataFrame]
    volumes: dict[str, dict[str, dict[str, Path]]]
    truths: dict[str, Path]
    subjects: dict[str, str]
    slice_axis: dict[str, int]
    tuning: pd.DataFrame
    settings: dict[str, str]
    protocols: dict[str, str]
    durations: dict[str, float]
    provenance: dict[str, object]
    parameters: dict[tuple[str, str], int]
    generative: GenerativeInputs | None = None
    volume_scores: pd.DataFrame | None = None
    uncertainties: dict[str, dict[str, dict[str, Path]]] = field(default_factory=dict)
    intervals: dict[str, dict[str, IntervalInputs]] = field(default_factory=dict)
    reference: str = "wavelet_vae"
    figures_per_task: int = 2
    viewer: bool = True
    ct_window: tuple[float, float] = (-160.0, 240.0)
    trained_elsewhere: str = ""
