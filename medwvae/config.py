"""The configuration: one typed model, from which configs/default.yaml and configs/schema.json are generated.

Each stage reads only its own slice (`slice_for`), so that a change under `report:` can never retrain a network.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from medwvae.config_base import (
    OVERRIDES,
    Budget,
    BudgetText,
    Crop,
    Fraction,
    Millimetres,
    Positive,
    Section,
    Settings,
    Several,
    Span,
    TaskSection,
    parse_budget,
)
from medwvae.config_generative import GenerativeConfig
from medwvae.errors import ConfigError
from medwvae.names import (
    INTERVAL_LEVELS,
    NETWORKS,
    REGIONS,
    TASKS,
    USUAL_METRICS,
    USUAL_NETWORKS,
    ZERO_SHOT,
    Classical,
    Contrast,
    Extra,
    LossName,
    Metric,
    Network,
    OptimiserName,
    Region,
    Task,
    UNetNorm,
    task_of,
)


class PhantomConfig(Section):
    """The synthetic cohort that is used when `input` is empty."""

    subjects: int = Field(14, ge=3, description="number of synthetic subjects")
    shape: tuple[Positive, Positive, Positive] = Field((112, 128, 64), description="voxels along R, A, S")
    spacing: tuple[Millimetres, Millimetres, Millimetres] = Field((1.7, 1.7, 2.4), description="mm along R, A, S")
    contrasts: Several[Contrast] = Field(
        ("t1w",), min_length=1, description="image weightings, any of t1w t2w flair pdw ct"
    )
    lesions: bool = Field(True, description="white-matter lesions in some subjects")
    bias: float = Field(0.0, ge=0, lt=1, description="strength of the receive bias field (0.3 = ±30 %)")
    noise: float = Field(0.0, ge=0, lt=1, description="Rician acquisition noise, fraction of the maximum")
    file_format: Literal["dicom", "nifti"] = Field("dicom", description="how the cohort is written")

    @model_validator(mode="after")
    def _contrasts_known(self) -> Self:
        if "unknown" in self.contrasts:
            raise ValueError("contrasts: a phantom has a known weighting; name any of t1w t2w flair pdw ct")
        return self


class IngestConfig(Section):
    """DICOM and NIfTI to canonical volumes."""

    subjects: Literal["pseudonym", "keep"] = Field(
        "pseudonym", description="keyed pseudonyms, or the source's own labels (only for data that is already public)"
    )
    pattern: str | None = Field(
        None, description="regular expression on a NIfTI's relative path, groups: subject, session, contrast"
    )
    default_modality: Literal["MR", "CT"] = Field("MR", description="modality of NIfTI files that do not say")
    on_gap: Literal["refuse", "resample"] = Field(
        "refuse", description="missing or unevenly spaced DICOM slices; resample = interpolate them linearly, recorded"
    )
    on_tilt: Literal["refuse", "shear"] = Field(
        "refuse", description="DICOM of a tilted gantry; shear = move its slices back, interpolated, recorded"
    )
    demographics: str | None = Field(None, description="CSV with columns subject (or MRID), age, sex, site")


class SplitConfig(Section):
    """Subjects to parts; always by subject."""

    train: float = Field(
        0.6, ge=0, lt=1, description="fraction of subjects for training; 0 = none, with networks.from_run"
    )
    val: Fraction = Field(0.2, description="fraction for validation (model choice, classical tuning)")
    test: Fraction = Field(0.2, description="fraction for the report")
    file: str | None = Field(None, description="CSV with columns subject, part, instead of a random split")

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        if abs(self.train + self.val + self.test - 1) > 1e-6:
            raise ValueError(f"train + val + test must be 1, got {self.train + self.val + self.test:g}")
        return self


class PreprocessConfig(Section):
    """Canonical volumes to slices in network units."""

    plane: Literal["acquired", "axial", "coronal", "sagittal"] = Field(
        "acquired",
        description="slices to restore; acquired = across the axis of the thickest voxels (axial if isotropic)",
    )
    contrasts: Several[Contrast] = Field((), description="keep only these weightings; empty = all")
    percentile: float = Field(99.0, gt=50, le=100, description="intensity inside the head that becomes 1 (MR)")


class SuperresConfig(TaskSection):
    """Super-resolution: in plane, from a truncated k-space or a bicubic reduction; or of thick slices."""

    protocol: Literal["ixi-td", "ixi-bd", "through-plane"] = Field(
        "ixi-td", description="ixi-td = k-space truncation, ixi-bd = bicubic, through-plane = thick slices along S"
    )
    factor: int = Field(2, ge=2, le=8, description="low-resolution voxel size / high-resolution voxel size")
    profile: Literal["rect", "gaussian"] = Field("rect", description="slice profile (through-plane)")
    crop: Crop | None = Field((96, 96), description="training crop; null = whole slices")
    budget: BudgetText | None = Field(None, description="overrides train.budget")
    batch: Positive | None = Field(None, description="overrides train.batch")
    loss: LossName | None = Field(None, description="overrides train.loss")
    weight_decay: float | None = Field(None, ge=0, description="overrides train.weight_decay")
    settings: Settings = Field({})


class DenoiseConfig(TaskSection):
    """Denoising with a known noise level."""

    noise: Literal["rician", "gaussian", "poisson"] = Field("rician", description="law of the noise")
    sigma: float = Field(
        0.05, gt=0, lt=1, description="noise standard deviation, fraction of the volume's maximum (poisson: there)"
    )
    crop: Crop | None = Field((88, 88), description="training crop; null = whole slices")
    budget: BudgetText | None = Field(None, description="overrides train.budget")
    batch: Positive | None = Field(None, description="overrides train.batch")
    loss: LossName | None = Field(None, description="overrides train.loss")
    weight_decay: float | None = Field(None, ge=0, description="overrides train.weight_decay")
    settings: Settings = Field({})


class ReconConfig(TaskSection):
    """Accelerated MRI with a Cartesian mask, one coil or several."""

    acceleration: float = Field(4.0, gt=1, description="columns of k-space / columns measured")
    centre: Fraction = Field(0.08, description="fraction of central columns always measured")
    pattern: Literal["random", "equispaced", "poisson-disc"] = Field(
        "random", description="the other columns; poisson-disc = positions along both axes"
    )
    coils: int = Field(1, ge=1, le=64, description="simulated receive coils of known sensitivity; 1 = none")
    partial: float = Field(1.0, gt=0.5, le=1, description="partial Fourier: fraction of the columns that is kept")
    phase: float = Field(1.0, ge=0, description="smooth image phase added to the magnitude, in waves; 0 = none")
    noise: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="standard deviation of k-space noise (of either part, in every coil), relative to the maximum",
    )
    crop: Crop | None = Field(None, description="training crop; null = whole slices")
    budget: BudgetText | None = Field(None, description="overrides train.budget")
    batch: Positive | None = Field(None, description="overrides train.batch")
    loss: LossName | None = Field(None, description="overrides train.loss")
    weight_decay: float | None = Field(None, ge=0, description="overrides train.weight_decay")
    settings: Settings = Field({})

    @model_validator(mode="after")
    def _centre_fits(self) -> Self:
        if self.centre * self.acceleration >= 1:
            raise ValueError(
                f"centre {self.centre} alone exceeds the 1/{self.acceleration:g} of k-space that is measured"
            )
        if self.partial - 0.5 < self.centre / 2:
            raise ValueError(f"partial {self.partial:g} cuts into the centre of {self.centre:g}")
        return self


class CTConfig(TaskSection):
    """CT from few views, of a limited arc, or with few photons."""

    views: Positive = Field(60, description="views, equally spaced")
    arc: float = Field(180.0, gt=0, le=360, description="degrees that they span (parallel beam)")
    beam: Literal["parallel", "fan"] = Field("parallel", description="shape of the beam; a fan makes a full turn")
    photons: float | None = Field(None, gt=0, description="photons per detector element; null = no noise")
    attenuation: float = Field(
        0.04, gt=0, description="of a pixel of intensity 1, as an exponent; 0.04 = 2 mm of water"
    )
    crop: Crop | None = Field(None, description="training crop; null = whole slices")
    budget: BudgetText | None = Field(None, description="overrides train.budget")
    batch: Positive | None = Field(None, description="overrides train.batch")
    loss: LossName | None = Field(None, description="overrides train.loss")
    weight_decay: float | None = Field(None, ge=0, description="overrides train.weight_decay")
    settings: Settings = Field({})

    @model_validator(mode="after")
    def _half_or_whole_turn(self) -> Self:
        if self.arc > 180 and self.arc != 360:
            raise ValueError(f"views span at most 180 degrees, or 360; with {self.arc:g} some rays would count twice")
        return self


class InpaintConfig(TaskSection):
    """Lost pixels."""

    kind: Literal["blocks", "streaks", "slices"] = Field(
        "blocks", description="what is lost; streaks = as metal leaves them, slices = across S"
    )
    lost: Fraction = Field(0.2, description="fraction of the pixels in lost blocks, or of the slices")
    streaks: Positive = Field(8, description="bands through each of two inserts")
    adjacent: Positive = Field(1, description="slices that are lost in a row")
    crop: Crop | None = Field((96, 96), description="training crop; null = whole slices")
    budget: BudgetText | None = Field(None, description="overrides train.budget")
    batch: Positive | None = Field(None, description="overrides train.batch")
    loss: LossName | None = Field(None, description="overrides train.loss")
    weight_decay: float | None = Field(None, ge=0, description="overrides train.weight_decay")
    settings: Settings = Field({})


class TasksConfig(Section):
    """What to train and to restore."""

    enabled: Several[Task] = Field(
        ("superres", "denoise", "recon"),
        description="any of superres denoise recon ct inpaint; none = only generative.systems",
    )
    superres: SuperresConfig = SuperresConfig()
    denoise: DenoiseConfig = DenoiseConfig()
    recon: ReconConfig = ReconConfig()
    ct: CTConfig = CTConfig()
    inpaint: InpaintConfig = InpaintConfig()


class Problem(NamedTuple):
    """What is restored and scored by itself: a task, or one of its settings.

    Attributes
    ----------
    id : str
        `denoise`, or `denoise-s3` for its setting `s3`; as paths and tables have it.
    task : Task
        The networks are trained for it.
    section : TaskSection
        Of the task, with what the setting changes.
    """

    id: str
    task: Task
    section: TaskSection


class WaveletVAEConfig(Section):
    """A Wavelet-VAE; the number of widths is the number of wavelet levels."""

    widths: tuple[Positive, ...] = Field(
        (32, 48, 64), min_length=1, description="channels per wavelet level, fine first"
    )
    blocks: int = Field(2, ge=0, description="residual blocks per level and direction")
    rounds: int = Field(1, ge=1, description="unrolled rounds of network and data consistency")
    shared: bool = Field(False, description="whether the rounds share their weights")
    positivity: int = Field(0, ge=0, description="projections onto non-negative images before the first round")
    noise: Literal["fixed", "global", "level", "subband", "coefficient"] = Field(
        "coefficient",
        description="sharing of the noise scale s; coefficient = predicted for each, on top of its subband's",
    )
    initial_noise: float = Field(0.1, gt=0, description="s at the start")
    scale_weight: float = Field(1e-3, ge=0, description="weight of the likelihood that fits s")
    fine: int = Field(0, ge=0, description="channels at the image's own resolution, above the first level; 0 = none")
    slice_levels: Positive | None = Field(
        None, description="wavelet levels across the slices of volumes, fewer where they are thick; null = as in plane"
    )
    weight_decay: float | None = Field(None, ge=0, description="in place of the task's, for this network alone")

    @model_validator(mode="after")
    def _levels_exist(self) -> Self:
        if self.slice_levels is not None and self.slice_levels > len(self.widths):
            raise ValueError(f"slice_levels {self.slice_levels} are more than the {len(self.widths)} levels of widths")
        return self


class WaveletVAEByTask(Section):
    """Wavelet-VAE of each task."""

    superres: WaveletVAEConfig = WaveletVAEConfig()
    denoise: WaveletVAEConfig = WaveletVAEConfig()
    recon: WaveletVAEConfig = WaveletVAEConfig(widths=(32, 48, 64, 96), blocks=1, rounds=3, fine=16)
    ct: WaveletVAEConfig = WaveletVAEConfig(widths=(32, 48, 64, 96), blocks=1, rounds=2, fine=16)
    inpaint: WaveletVAEConfig = WaveletVAEConfig()

    @model_validator(mode="before")
    @classmethod
    def _the_rest_is_the_tasks_own(cls, data: Any) -> Any:
        """Fill what is left out of a task's network from that task's defaults, not from those of any network."""
        if not isinstance(data, dict):
            return data
        own = {name: field.default.model_dump() for name, field in cls.model_fields.items()}
        return {k: own[k] | v if k in own and isinstance(v, dict) else v for k, v in data.items()}


class ConvVAEConfig(Section):
    """The conventional VAE."""

    widths: tuple[Positive, ...] = Field((32, 48, 64), min_length=2, description="channels per resolution, fine first")
    latent: Positive = Field(16, description="latent channels at the coarsest resolution")
    blocks: int = Field(1, ge=0, description="residual blocks per resolution and direction")
    beta: float = Field(1e-4, ge=0, description="weight of the KL term")
    learning_rate: float = Field(1e-3, gt=0, description="peak of its own schedule: it does not survive a larger one")


_UNetNorm = Annotated[UNetNorm, Field(description="instance = MONAI's default; none restores better")]


class UNetConfig(Section):
    """MONAI's BasicUNet."""

    features: tuple[Positive, Positive, Positive, Positive, Positive, Positive] = Field(
        (16, 32, 64, 96, 128, 16), description="channels of the five levels and of the last layer"
    )
    norm: _UNetNorm = "none"


class DnCNNConfig(Section):
    """DnCNN, as published."""

    depth: int = Field(17, ge=3, description="convolutions")
    width: Positive = Field(64, description="channels between them")
    normalise: bool = Field(True, description="batch norm")


class UnrolledUNetConfig(Section):
    """Rounds of a small BasicUNet and data consistency (MoDL, VarNet); a single one in denoising."""

    features: tuple[Positive, Positive, Positive, Positive, Positive, Positive] = Field(
        (12, 24, 36, 48, 64, 12), description="channels of the five levels and of the last layer"
    )
    norm: _UNetNorm = "none"
    rounds: Positive = Field(5, description="unrolled rounds of network and data consistency")
    shared: bool = Field(False, description="whether the rounds share their weights")


class NetworksConfig(Section):
    """The networks of the table."""

    enabled: Several[Network] = Field(
        USUAL_NETWORKS, description="any of wavelet_vae conv_vae unet dncnn unrolled_unet"
    )
    from_run: str | None = Field(
        None, description="folder of a finished run whose networks restore, as they are there: nothing is trained"
    )
    dims: Literal[2, 3] = Field(2, description="2 = slices; 3 = volumes")
    neighbours: int = Field(0, ge=0, le=8, description="slices on either side that networks on slices see as well")
    wavelet_vae: WaveletVAEByTask = WaveletVAEByTask()
    conv_vae: ConvVAEConfig = ConvVAEConfig()
    unet: UNetConfig = UNetConfig()
    dncnn: DnCNNConfig = DnCNNConfig()
    unrolled_unet: UnrolledUNetConfig = UnrolledUNetConfig()


class TrainConfig(Section):
    """The training loop, the same for every network."""

    budget: BudgetText = Field(
        "2000 steps",
        description="the same for every network of a task: `90 s`, `2 min` or `2000 steps` (steps resume to the bit)",
    )
    batch: Positive = Field(8, description="slices (or patches of volumes) per pass and device")
    accumulate: Positive = Field(1, description="passes whose gradients are averaged before a step")
    depth: Positive = Field(32, description="slices of a patch, for networks on volumes; `crop` is its size in plane")
    optimiser: OptimiserName = Field(
        "muon", description="muon = orthogonalised steps for convolution kernels, AdamW for the rest; adamw = for all"
    )
    learning_rate: float = Field(4e-3, gt=0, description="peak of the schedule (AdamW)")
    matrix_rate: float = Field(2.5, gt=0, description="Muon's learning rate, as a multiple of AdamW's")
    weight_decay: float = Field(1e-4, ge=0, description="decoupled weight decay")
    warmup: float = Field(0.03, ge=0, lt=1, description="fraction of the budget to warm up; then cosine to zero")
    seed: int | None = Field(None, ge=0, description="of weights and draws alone; null = the study's")
    loss: LossName = Field("l1", description="image loss")
    supervision: Literal["clean", "noise2self", "ssdu"] = Field(
        "clean", description="what networks learn from; noise2self (denoise) and ssdu (recon) read no clean image"
    )
    clip: float = Field(1.0, gt=0, description="largest gradient norm")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights (ramped up from 0)")
    validations: Positive = Field(10, description="validations over the budget")
    validation_slices: Positive = Field(32, description="slices per validation, spread over the validation subjects")
    patience: int = Field(5, ge=0, description="stop after this many validations without a better PSNR; 0 = never")
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = Field(
        "auto", description="auto = bf16 where the hardware has it"
    )
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="Lightning Fabric's accelerator")
    devices: Positive = Field(1, description="devices of a node (data-parallel)")
    nodes: Positive = Field(1, description="nodes (data-parallel), under srun or torchrun")
    deterministic: bool = Field(
        False, description="the same result to the bit on a card too, by its slower algorithms (on a CPU it is anyway)"
    )
    checkpoint_seconds: float = Field(20, gt=0, description="seconds between full checkpoints")
    threads: Positive = Field(8, description="CPU threads of one training; fewer than the cores trains several at once")
    tensorboard: bool = Field(False, description="also write TensorBoard events (extra: tensorboard)")


class UncertaintyConfig(Section):
    """Intervals of the Wavelet-VAE's answers, calibrated on validation subjects."""

    level: float | None = Field(
        None,
        description="share of the head's voxels that intervals shall hold (0.5 0.6 0.7 0.8 0.9 0.95); null = none",
    )
    draws: Positive = Field(16, description="posterior draws, where the spread is not known without (known samples)")
    measurements: Positive = Field(
        4, description="simulated of every validation volume to calibrate on, each with a mask and noise of its own"
    )
    bounded: bool = Field(
        False,
        description="widen, so that expected coverage is no less than level; needs level / (1 - level) subjects",
    )

    @model_validator(mode="after")
    def _level_known(self) -> Self:
        if self.level is not None and self.level not in INTERVAL_LEVELS:
            raise ValueError(f"level {self.level:g} is none of {' '.join(f'{one:g}' for one in INTERVAL_LEVELS)}")
        return self


class RestoreConfig(Section):
    """Whole volumes."""

    self_ensemble: bool | Several[Task] = Field(
        True,
        description="average the networks' answers over mirrored copies (4, of volumes 8); or the tasks to do it for",
    )
    batch: Positive = Field(24, description="the most slices per forward pass (networks on slices)")
    data_steps: Positive | None = Field(
        None,
        description="conjugate-gradient steps by which answers agree with exact data of CT or several coils, 8 as in "
        "training; null = as many as pay",
    )
    max_memory: str | None = Field(
        None, description="the most memory of the process (or of the card), as `2 GiB`; null = a share of what is free"
    )
    uncertainty: UncertaintyConfig = UncertaintyConfig()
    unsupported: bool = Field(
        False, description="write maps of the detail that the measurement does not support, of every method"
    )
    zero_shot: str | None = Field(
        None,
        description="generative model (as elbo-r1-s1: a Wavelet-VAE, ELBO mode, rate 1) whose prior restores every "
        "task; null = none",
    )

    def mirrors(self, task: Task) -> bool:
        """Return whether a task's answers are means over mirrored copies."""
        return self.self_ensemble if isinstance(self.self_ensemble, bool) else task in self.self_ensemble


class ClassicalConfig(Section):
    """Classical rivals, tuned on validation subjects."""

    enabled: Several[Classical] | None = Field(None, description="names of the methods; null = all but the extras")
    extras: Several[Extra] = Field(
        (), description="methods of packages with licences of their own: bm3d bm4d (pip install 'medwvae[bm]')"
    )
    tuning_subjects: Positive = Field(2, description="validation subjects to tune on")
    tuning_slices: Positive = Field(12, description="slices per subject to tune on")


class ProtocolsConfig(Section):
    """Rules of scoring in place of a task's own; what is measured stays. See docs/protocols.md."""

    recon: Literal["fastmri", "calgary"] | None = Field(None, description="null = by tasks.recon.pattern")
    ct: Literal["sparse-view", "lodopab", "lodopab-fr", "ldct-chest", "ldct-abdomen", "ldct-neuro"] | None = Field(
        None, description="null = sparse-view; ldct-* look at CT through a window in HU"
    )


class EvaluateConfig(Section):
    """Scores per subject."""

    protocols: ProtocolsConfig = ProtocolsConfig()
    regions: Several[Region] = Field(
        REGIONS, min_length=1, description="where to score; lesion = in the masks of `lesions`, if there are any"
    )
    metrics: Several[Metric] = Field(
        USUAL_METRICS,
        min_length=1,
        description="any of psnr ssim nmse ms_ssim gradient_error hfen edge_sharpness subbands ct",
    )
    lesions: str | None = Field(
        None, description="folder of lesion masks on the volumes' canonical grid, <volume>.nii.gz; volumes may lack one"
    )


class ReportConfig(Section):
    """The page."""

    title: str = Field("Wavelet-VAE restoration", description="headline of the report")
    reference: Network = Field(
        "wavelet_vae", description="the network that every other method is compared with; one of networks.enabled"
    )
    subjects_shown: Positive = Field(2, description="subjects with pictures per task (worst and median first)")
    viewer: bool = Field(
        True, description="hold the worst test subject's volumes in the page, to scroll through; a head shows a face"
    )
    ct_window: Span = Field(
        (-160.0, 240.0), description="lowest and highest HU in pictures of CT; bone: [-450, 1050], lung: [-1350, 150]"
    )
    intended_use: str | None = Field(
        None, description="first sentence of the model card's intended use; null = research on images of this kind"
    )
    data_licence: str | None = Field(None, description="licence or terms of the images, for the data sheet")
    data_source: str | None = Field(None, description="where the images come from, for the data sheet")


class Config(Section):
    """A study: data, split, tasks, networks, budgets, report."""

    run: str = Field(
        "default", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the study: results/<run>/"
    )
    input: str | None = Field(None, description="folder of DICOM and NIfTI files; null = the synthetic cohort")
    results: str = Field("results", description="folder of all studies")
    seed: int = Field(1, ge=0, description="every random choice follows from it")
    phantom: PhantomConfig = PhantomConfig()
    ingest: IngestConfig = IngestConfig()
    split: SplitConfig = SplitConfig()
    preprocess: PreprocessConfig = PreprocessConfig()
    tasks: TasksConfig = TasksConfig()
    networks: NetworksConfig = NetworksConfig()
    train: TrainConfig = TrainConfig()
    restore: RestoreConfig = RestoreConfig()
    classical: ClassicalConfig = ClassicalConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    generative: GenerativeConfig = GenerativeConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _laws(self) -> Self:
        for task in TASKS:
            multiple = 2 ** len(getattr(self.networks.wavelet_vae, task).widths)
            crop = getattr(self.tasks, task).crop
            if crop is not None and any(size % multiple for size in crop):
                raise ValueError(f"tasks.{task}.crop {list(crop)} must be multiples of 2^levels = {multiple}")
        if self.preprocess.plane not in ("coronal", "sagittal"):
            for problem in (*self.problems_of("superres"), *self.problems_of("inpaint")):
                for field, value in (("protocol", "through-plane"), ("kind", "slices")):
                    if getattr(problem.section, field, None) == value:
                        raise ValueError(
                            f"tasks.{problem.id.replace('-', '.settings.')}.{field}: {value} needs slices across S; "
                            "preprocess.plane: coronal or sagittal"
                        )
        self._supervision_fits()
        if not self.split.train and self.networks.from_run is None:
            raise ValueError("split.train: 0 leaves nothing to train on; name a run with networks.from_run")
        self._zero_shot_fits()
        if self.networks.dims == 3 and self.networks.neighbours:
            raise ValueError("networks.neighbours is for networks on slices (networks.dims = 2)")
        if self.networks.dims == 2:
            thick = [task for task in TASKS if getattr(self.networks.wavelet_vae, task).slice_levels is not None]
            if thick:
                raise ValueError(f"networks.wavelet_vae.{thick[0]}.slice_levels needs networks.dims = 3")
        for task in self.tasks.enabled if self.networks.dims == 3 else ():
            multiple = 2 ** len(getattr(self.networks.wavelet_vae, task).widths)
            if self.train.depth % multiple:
                raise ValueError(f"train.depth {self.train.depth} must be a multiple of 2^levels = {multiple} ({task})")
        if self.report.reference not in self.networks.enabled:
            raise ValueError(
                f"networks.enabled must hold {self.report.reference}: the report compares every method with it "
                "(report.reference)"
            )
        if self.restore.uncertainty.level is not None and "wavelet_vae" not in self.networks.enabled:
            raise ValueError(
                "restore.uncertainty.level: intervals are those of wavelet_vae; add it to networks.enabled"
            )
        if not self.tasks.enabled and not self.generative.systems:
            raise ValueError("tasks.enabled and generative.systems are both empty: there is nothing to do")
        return self

    def _supervision_fits(self) -> None:
        own = self.train.supervision
        if own == "clean":
            return
        only, why = {
            "noise2self": ("denoise", "it needs noise that is independent from pixel to pixel"),
            "ssdu": ("recon", "it splits sampled k-space"),
        }[own]
        if others := [task for task in self.tasks.enabled if task != only]:
            raise ValueError(f"train.supervision: {own} is for {only} alone ({why}); tasks.enabled has {others[0]}")
        if own == "noise2self" and self.training("denoise").loss != "mse":
            raise ValueError(
                "train.supervision: noise2self needs the loss mse (train.loss or tasks.denoise.loss); only the squared "
                "error to noisy pixels is that to clean ones up to a constant"
            )
        if self.restore.uncertainty.level is not None:
            raise ValueError(
                f"restore.uncertainty.level: intervals are calibrated on clean images; with train.supervision: {own} "
                "there are none"
            )
        if self.networks.dims == 3:
            raise ValueError(f"train.supervision: {own} is for networks on slices (networks.dims = 2)")

    def _zero_shot_fits(self) -> None:
        name, models = self.restore.zero_shot, self.generative.models()
        if name is None:
            return
        if name not in models:
            have = ", ".join(models) or "none, for there are no systems"
            raise ValueError(f"restore.zero_shot: generative has no model {name}; have: {have}")
        system = self.generative.systems[models[name].system]
        whole = getattr(system, "objective", None) == "elbo" and getattr(system, "select", None) == "subbands"
        if not whole or models[name].rate != 1:
            raise ValueError(
                f"restore.zero_shot: {name} has no prior of every coefficient; it takes a system of kind wavelet, "
                "objective elbo, select subbands, at rate 1"
            )
        if self.generative.data.kind != "slices" or getattr(system, "conditional", False):
            raise ValueError(
                f"restore.zero_shot: {name} must be a model of slices (generative.data.kind) that is not conditional"
            )

    @property
    def root(self) -> Path:
        """Folder of this study."""
        return Path(self.results) / self.run

    @property
    def has_cohort(self) -> bool:
        """Whether anything is done with volumes; a set of images alone needs none."""
        return bool(self.tasks.enabled) or self.generative.data.of_cohort

    @property
    def own_paths(self) -> dict[str, str]:
        """Paths of the user's own, by their dotted key: folders and files can be named after a patient."""
        paths = {
            "input": self.input,
            "ingest.demographics": self.ingest.demographics,
            "split.file": self.split.file,
            "networks.from_run": self.networks.from_run,
            "evaluate.lesions": self.evaluate.lesions,
            "generative.fidelity.weights": self.generative.fidelity.weights,
            "generative.data.path": getattr(self.generative.data, "path", None),
        }
        return {key: path for key, path in paths.items() if path}

    def with_paths(self, paths: Mapping[str, str]) -> Self:
        """Return a copy with other paths under these dotted keys."""
        plain = self.model_dump(mode="json")
        for key, path in paths.items():
            *sections, field = key.split(".")
            section = plain
            for name in sections:
                section = section[name]
            section[field] = path
        return self.model_validate(plain)

    def problems_of(self, task: Task) -> tuple[Problem, ...]:
        """Return a task's settings in order; the task itself where it has none."""
        section: TaskSection = getattr(self.tasks, task)
        return tuple(Problem(f"{task}-{name}", task, section.at(name)) for name in section.settings) or (
            Problem(task, task, section),
        )

    def problems(self) -> tuple[Problem, ...]:
        """Return all that is restored and scored, in order: the enabled tasks' settings."""
        return tuple(problem for task in self.tasks.enabled for problem in self.problems_of(task))

    def problem(self, name: str) -> Problem:
        """Return a problem by its id, of any task, enabled or not.

        Raises
        ------
        ConfigError
            If the configuration has none of that name.
        """
        try:
            have = self.problems_of(task_of(name))
        except KeyError:
            raise ConfigError(f"no task {name!r}; have: {', '.join(TASKS)}") from None
        for problem in have:
            if problem.id == name:
                return problem
        raise ConfigError(f"no setting {name!r}; have: {', '.join(problem.id for problem in have)}")

    def budget(self, task: Task) -> Budget:
        """Training budget of a task."""
        return parse_budget(self.training(task).budget)

    def training(self, task: Task) -> TrainConfig:
        """How a task's networks train: the section `train`, and over it what the task has of its own."""
        section: TaskSection = getattr(self.tasks, task)
        own = {name: value for name in OVERRIDES if (value := getattr(section, name)) is not None}
        return self.train.model_copy(update=own)

    def generative_budget(self, system: str) -> Budget:
        """Training budget of a generative model."""
        own: str | None = getattr(self.generative.systems[system], "budget", None)
        return parse_budget(own or self.generative.budget)


_UNREAD = {"budget", "checkpoint_seconds", "tensorboard", "threads"}
"""Fields of `train` that do not change the weights (the budget is read on its own)."""


def slice_for(config: Config, stage: str, problem: str | None = None, method: str | None = None) -> dict[str, Any]:
    """Return the part of the configuration that a stage reads; its digest decides whether the stage runs again.

    `problem` is a task for training, which reads all its settings, and the id of a `Problem` for restoration. Of a
    generative model, `method` is the id.

    Raises
    ------
    KeyError
        If `stage` is not a stage, or lacks its problem and method.
    """
    c = config.model_dump(mode="json")
    if stage == "phantom":
        return {"seed": c["seed"], "phantom": c["phantom"]}
    if stage == "ingest":
        return {"input": c["input"], "ingest": c["ingest"]}
    if stage == "split":
        return {"seed": c["seed"], "split": c["split"], "contrasts": c["preprocess"]["contrasts"]}
    if stage == "preprocess":
        return {"preprocess": c["preprocess"]}
    if stage in ("train", "restore"):
        if problem is None or method is None:
            raise KeyError(f"{stage} needs a task and a method")
        task = task_of(problem)
        measured = config.problems_of(task) if stage == "train" else (config.problem(problem),)
        parts = [one.section.model_dump(mode="json", exclude={*OVERRIDES, "settings"}) for one in measured]
        out: dict[str, Any] = {"seed": c["seed"], "task": parts[0] if len(parts) == 1 else parts}
        if method in NETWORKS:
            network = c["networks"][method]
            out["network"] = network[task] if method == "wavelet_vae" else network
            out |= {key: c["networks"][key] for key in ("dims", "neighbours")}
            if stage == "restore" and c["networks"]["from_run"]:
                out["network"] = {"from_run": c["networks"]["from_run"]}
        levels = len(c["networks"]["wavelet_vae"][task]["widths"])  # whole slices are padded for them, a rival's too
        if stage == "train":
            return out | {
                "levels": levels,
                "train": config.training(task).model_dump(mode="json", exclude=_UNREAD),
                "budget": config.budget(task)._asdict(),
            }
        if method == ZERO_SHOT:
            tuning = {k: v for k, v in c["classical"].items() if k.startswith("tuning")}
            out |= {"classical": tuning} | _generative_slice(config, c, stage, config.restore.zero_shot)
        elif method in NETWORKS:
            unread = ("data_steps", "max_memory", "uncertainty", "unsupported", "zero_shot")
            out["restore"] = {k: v for k, v in c["restore"].items() if k not in unread}
        else:
            out["classical"] = c["classical"]
        # What is not asked for is not read: nothing is restored again for its sake.
        if method == "wavelet_vae" and c["restore"]["uncertainty"]["level"] is not None:
            out["uncertainty"] = c["restore"]["uncertainty"]
        asked = {key: c["restore"][key] for key in ("data_steps", "unsupported")}
        return out | {key: value for key, value in asked.items() if value}
    if stage == "evaluate":
        return {"evaluate": c["evaluate"]}
    if stage == "report":
        return {"report": c["report"], "run": c["run"], "enabled": [problem.id for problem in config.problems()]}
    if stage.endswith(("_generative", "_prior")) or stage.startswith("generative_"):
        return _generative_slice(config, c, stage, method)
    raise KeyError(stage)


def _generative_slice(config: Config, c: dict[str, Any], stage: str, method: str | None) -> dict[str, Any]:
    g = c["generative"]
    scored = {"fidelity": g["fidelity"], "samples": g["samples"]}
    if stage == "generative_report":
        return {"run": c["run"], "models": list(config.generative.models())}
    if stage == "generative_references":
        return {"seed": c["seed"], "data": g["data"], **scored}
    if method is None:
        raise KeyError(f"{stage} needs the id of a model")
    model = config.generative.models()[method]
    system = g["systems"][model.system]
    trained = {
        "seed": [c["seed"], model.seed],
        "rate": model.rate,
        "data": g["data"],
        "system": {k: v for k, v in system.items() if k not in ("rates", "seeds", "prior", "budget")},
        "budget": config.generative_budget(model.system)._asdict(),
        "train": {k: v for k, v in c["train"].items() if k not in _UNREAD},
    }
    if stage == "restore":
        return {"model": {k: trained[k] for k in ("rate", "data", "system")}}
    if stage == "generative_uses":
        # The diffusion draws samples, and none of these uses is one.
        return {k: trained[k] for k in ("seed", "rate", "data", "system")} | {"images": g["fidelity"]["images"]}
    if stage == "train_generative":
        return trained
    if stage == "train_prior":
        return trained | {"prior": g["prior"]}
    if stage == "score_generative":
        # The weights come as a file: what trained them is not read again.
        own = {k: v for k, v in g["prior"].items() if k not in ("budget", "learning_rate")}
        prior = {"prior": own} if system.get("prior") else {}
        return {k: trained[k] for k in ("seed", "rate", "data", "system")} | scored | prior
    raise KeyError(stage)
