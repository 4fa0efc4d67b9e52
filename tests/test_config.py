import difflib
import json
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from medwvae import build
from medwvae.config import Config, slice_for
from medwvae.config_base import Budget, parse_budget
from medwvae.config_io import load, schema_json, to_yaml
from medwvae.errors import ConfigError
from medwvae.names import NETWORKS, TASKS, ZERO_SHOT

CONFIGS = Path(__file__).parents[1] / "configs"
STAGES = [("phantom",), ("ingest",), ("split",), ("preprocess",), ("evaluate",), ("report",)]
TRAINED = [(task, network) for task in TASKS for network in NETWORKS]
CLASSICAL = [("superres", "cs_wavelet"), ("denoise", "tv"), ("recon", "cs_wavelet")]
CLASSICAL += [("ct", "sirt"), ("inpaint", "cs_wavelet")]
MODEL = "deep_2-r8-s2"
GENERATIVE = [
    (stage, None, MODEL) for stage in ("train_generative", "train_prior", "score_generative", "generative_uses")
]
ALL = [
    *STAGES,
    *GENERATIVE,
    ("generative_references",),
    ("generative_report",),
    *(("train", *pair) for pair in TRAINED),
    *(("restore", *pair) for pair in TRAINED + CLASSICAL),
    *(("restore", task, ZERO_SHOT) for task in TASKS),
]
WHOLE: dict[str, Any] = {"kind": "wavelet", "rates": [1], "seeds": 1}
STUDY = load(
    overrides={
        "restore": {"uncertainty": {"level": 0.8}, "zero_shot": "whole-r1-s1"},
        "generative": {
            "systems": {"deep_2": {"kind": "wavelet", "prior": True}, "plain": {"kind": "ll_only"}, "whole": WHOLE},
            "seeds": {4: 1, 8: 2, 16: 1},
            "prior": {"kind": "diffusion"},
        },
    }
)
"""Defaults, intervals, zero-shot restoration, three systems: without them no stage reads some of their fields."""
DECIDES_NO_RESULT = {
    "results",
    "networks.enabled",
    "generative.uses",
    "train.checkpoint_seconds",
    "train.tensorboard",
    "train.threads",
    "restore.max_memory",
}


def sections(model: type[BaseModel] = Config, prefix: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Every section of the configuration with its path, the root first."""
    found = [(prefix, model)]
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found += sections(field.annotation, (*prefix, name))
    return found


SECTIONS = sections()
LEAVES = [
    ((*prefix, name), field)
    for prefix, model in SECTIONS
    for name, field in model.model_fields.items()
    if (*prefix, name) not in {path for path, _ in SECTIONS}
]


def nested(path: tuple[str, ...], value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value


def written(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def other(annotation: Any, value: Any, name: str) -> Any:
    """Return another value of a field's type."""
    options = [o for a in (annotation, *get_args(annotation)) if get_origin(a) is Literal for o in get_args(a)]
    if name == "budget":
        return "7 steps"
    if name == "settings":
        return {"one": {}, "two": {}}
    if name == "systems":
        return value | {"deep_2": value["deep_2"].model_copy(update={"blocks": 7})}
    if name == "seeds":
        return value | {8: 3}
    if isinstance(value, BaseModel):
        return value.model_copy(update={"mirror": False})
    if name == "parts":
        return 1
    if name in ("steps", "data_steps"):
        return 40
    if name == "zero_shot":
        return MODEL
    if name == "slice_levels":
        return 2
    if name == "rates":
        return value[:-1]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * 0.7 + 0.001
    if isinstance(value, str):
        return next((o for o in options if o != value), value + "x")
    if isinstance(value, tuple):
        if value and isinstance(value[0], int | float):
            return (value[0] + 1, *value[1:])
        return value[:-1] if value else ("t1w",)
    nothing = {"batch": 5, "weight_decay": 0.5, "seed": 5, "crop": (8, 8), "enabled": ("x",), "photons": 1e5}
    return nothing.get(name, "x")


def changed(config: Config, path: tuple[str, ...], value: Any) -> Config:
    """Return a copy with one field replaced, without validation."""
    if len(path) == 1:
        return config.model_copy(update={path[0]: value})
    return config.model_copy(update={path[0]: changed(getattr(config, path[0]), path[1:], value)})


def readers_of(path: tuple[str, ...], annotation: Any) -> set[tuple[str, ...]]:
    """Every stage whose slice changes with a field."""
    before = STUDY
    value: Any = before
    for key in path:
        value = getattr(value, key)
    after = changed(before, path, other(annotation, value, path[-1]))
    assert after != before
    return {stage for stage in ALL if slice_for(before, *stage) != slice_or_none(after, *stage)}


def slice_or_none(config: Config, *stage: Any) -> dict[str, Any] | None:
    """Return what a stage reads; None where a task's settings have taken its place."""
    try:
        return slice_for(config, *stage)
    except ConfigError:
        return None


def name_of(leaf: Any) -> str:
    return ".".join(leaf[0])


# --- the model -------------------------------------------------------------------------------------------------------


def test_the_defaults_are_valid_and_every_field_says_what_it_is():
    assert Config.model_validate(Config().model_dump(mode="json")) == Config()
    assert not [name_of(leaf) for leaf in LEAVES if not leaf[1].description and leaf[0][-1] not in ("budget",)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"split": {"train": 0.7}}, r"split: train \+ val \+ test must be 1, got 1\.1"),
        ({"tasks": {"recon": {"acceleration": 13}}}, "centre 0.08 alone exceeds the 1/13"),
        (
            {"tasks": {"denoise": {"crop": [88, 90]}}},
            r"tasks.denoise.crop \[88, 90\] must be multiples of 2\^levels = 8",
        ),
        ({"networks": {"wavelet_vae": {"superres": {"widths": [8] * 6}}}}, r"must be multiples of 2\^levels = 64"),
        ({"networks": {"enabled": ["unet"]}}, "must hold wavelet_vae"),
        ({"report": {"reference": "dncnn"}}, "must hold dncnn"),
        (
            {
                "networks": {"enabled": ["unet"]},
                "report": {"reference": "unet"},
                "restore": {"uncertainty": {"level": 0.9}},
            },
            "intervals are those of wavelet_vae",
        ),
        ({"report": {"ct_window": [240, -160]}}, "must be below the second"),
        ({"tasks": {"enabled": []}}, "tasks.enabled and generative.systems are both empty"),
        ({"run": "../elsewhere"}, "run: String should match pattern"),
        ({"train": {"learning_rate": float("inf")}}, "train.learning_rate: .*finite"),
        ({"classical": {"enabled": ["nlmm"]}}, "classical.enabled.0: Input should be .*'nlm'"),
        ({"train": None}, "train: .*valid dictionary"),
        ({"phantom": {"spacing": [1.7, 0, 2.4]}}, r"phantom.spacing.1: .*greater than 0"),
        ({"phantom": {"contrasts": []}}, "phantom.contrasts: .*at least 1 item"),
        ({"phantom": {"contrasts": ["t1w", "unknown"]}}, "phantom: contrasts: a phantom has a known weighting"),
        ({"phantom": {"contrasts": ["t1w", "ct", "t1w"]}}, "phantom.contrasts: t1w is named twice"),
        ({"preprocess": {"contrasts": ["ct", "ct"]}}, "preprocess.contrasts: ct is named twice"),
        ({"tasks": {"superres": {"crop": [0, 64]}}}, r"tasks.superres.crop.0: .*greater than 0"),
        ({"tasks": {"recon": {"crop": [64, -8]}}}, r"tasks.recon.crop.1: .*greater than 0"),
        ({"tasks": {"enabled": ["recon", "recon"]}}, "tasks.enabled: recon is named twice"),
        ({"networks": {"enabled": ["wavelet_vae", "unet", "unet"]}}, "networks.enabled: unet is named twice"),
        ({"classical": {"enabled": ["tv", "tv"]}}, "classical.enabled: tv is named twice"),
        ({"restore": {"uncertainty": {"level": 0.99}}}, "level 0.99 is none of 0.5 0.6 0.7 0.8 0.9 0.95"),
        ({"evaluate": {"regions": ["head", "head"]}}, "evaluate.regions: head is named twice"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_laws_across_fields(tmp_path, content, words):
    file = written(tmp_path / "study.yaml", content)
    with pytest.raises(ConfigError, match=words):
        load([file])


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Config().train.batch = 3  # type: ignore[misc]


# --- budgets ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 10**6), st.sampled_from(["", " "]))
def test_budgets_read_as_they_are_written(amount, space):
    assert parse_budget(f"{amount}{space}s") == Budget(amount, None)
    assert parse_budget(f"{amount}{space}min") == Budget(60 * amount, None)
    assert parse_budget(f"{amount}{space}steps") == Budget(None, amount)
    assert parse_budget(f"{amount}.5{space}s") == Budget(amount + 0.5, None)


@given(st.text(max_size=12))
def test_a_budget_sets_one_of_the_two_or_is_refused(text):
    try:
        seconds, steps = parse_budget(text)
    except ValueError:
        return
    assert (seconds is None) != (steps is None)
    assert (seconds or steps or 0) > 0


@pytest.mark.parametrize("text", ["0 s", "1.5 steps", "-3 s", "90", "s", "90 h", "1e3 steps", " 90 s"])
def test_what_is_no_budget_is_refused_where_it_stands(tmp_path, text):
    file = written(tmp_path / "study.yaml", {"run": "a", "train": {"budget": text}})
    with pytest.raises(ConfigError, match=f"^{file}:3: train.budget: "):
        load([file])


def test_a_tasks_own_budget_wins():
    config = load(overrides={"train.budget": "9 steps", "tasks.recon.budget": "2 min"})
    assert config.budget("superres") == Budget(None, 9)
    assert config.budget("recon") == Budget(120, None)


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "model"), SECTIONS, ids=lambda v: ".".join(v) if isinstance(v, tuple) else "")
def test_an_unknown_key_is_answered_with_its_place_and_the_nearest_name(tmp_path, path, model):
    for name in model.model_fields:
        typo = name + "_"
        file = tmp_path / "study.yaml"
        file.write_text("# a comment first\n" + yaml.safe_dump(nested((*path, typo), 1)), encoding="utf-8")
        line = 2 + len(path)
        near = difflib.get_close_matches(typo, list(model.model_fields), n=1)[0]
        expected = f"{file}:{line}: unknown key `{'.'.join((*path, typo))}`; did you mean `{near}`?"
        with pytest.raises(ConfigError) as error:
            load([file])
        assert str(error.value) == expected
        assert near == name


def test_an_unknown_key_that_resembles_nothing_lists_the_valid_ones(tmp_path):
    with pytest.raises(ConfigError, match=r"unknown key `restore\.zzz`; valid keys here: self_ensemble, batch"):
        load(overrides=["restore.zzz=1"])


def test_every_mistake_is_reported_at_once_each_in_its_own_file(tmp_path):
    one = written(tmp_path / "one.yaml", {"train": {"bach": 1}})
    two = written(tmp_path / "two.yaml", {"train": {"batch": "many"}})
    with pytest.raises(ConfigError) as error:
        load([one, two])
    assert sorted(str(error.value).splitlines())[0].startswith(f"{one}:2: unknown key `train.bach`")
    assert sorted(str(error.value).splitlines())[1].startswith(f"{two}:2: train.batch: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [("train: [", ":1: not valid YAML"), ("train: {\n a: b: c}", ":2: not valid YAML"), ("- 3", ": expected sections")],
)
def test_a_file_that_is_no_configuration(tmp_path, text, words):
    file = tmp_path / "study.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"^{file}{words}"):
        load([file])
    with pytest.raises(ConfigError, match="cannot read the configuration"):
        load([tmp_path / "absent.yaml"])
    for content, words in ((b"run: caf\xe9", "is not UTF-8 text; save it as UTF-8"), (b"run: \x00", "not valid YAML")):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=words) as error:
            load([file])
        assert len(str(error.value).splitlines()) == 1
    file.write_text("", encoding="utf-8")
    assert load([file]) == Config()


def test_three_ways_to_write_an_override():
    expected = load(overrides=["train.batch=8", "tasks.recon.crop=null"])
    assert (expected.train.batch, expected.tasks.recon.crop) == (8, None)
    assert load(overrides=["train__batch=8"]) == load(overrides={"train": {"batch": 8}})
    assert load(overrides={"train.batch": 8, "tasks__recon": {"crop": None}}) == expected
    assert load(overrides={"train": {"batch": 8}, "tasks": {"recon.crop": None}}) == expected
    assert load(overrides=["tasks.enabled=[recon]", "run=a"]).tasks.enabled == ("recon",)
    # As Snakemake's --config hands it on: every value is a text.
    assert load(overrides={"train": {"batch": "8"}, "tasks": {"recon": {"crop": "null"}}}) == expected
    assert load(overrides={"generative": {"uses": "null"}}) == Config()


@pytest.mark.parametrize("text", ["train.batch", "train.batch=[", "train.batch=x", "trainbatch=3"])
def test_an_override_that_makes_no_sense(text):
    with pytest.raises(ConfigError, match=r"override|command line"):
        load(overrides=[text])


def test_overlays_merge_from_left_to_right_key_by_key(tmp_path):
    one = written(tmp_path / "one.yaml", {"run": "one", "train": {"batch": 2, "clip": 3.0}})
    two = written(tmp_path / "two.yaml", {"run": "two", "train": {"batch": 4}})
    config = load([one, two], ["train.ema=0.5"])
    assert (config.run, config.train.batch, config.train.clip, config.train.ema) == ("two", 4, 3.0, 0.5)
    assert load([two, one]).train.batch == 2
    assert load([one, two], ["run=three"]).run == "three"


# --- a latent in use -------------------------------------------------------------------------------------------------


def test_only_a_model_of_the_study_can_be_put_to_use():
    systems = {"elbo": {"kind": "wavelet"}}
    assert load(overrides={"generative": {"systems": systems, "uses": "elbo-r8-s1"}}).generative.uses == "elbo-r8-s1"
    for overrides, words in (
        ({"systems": systems, "uses": "elbo-r2-s1"}, "no model elbo-r2-s1; have: elbo-r4-s1, elbo-r8-s1, elbo-r16-s1"),
        ({"uses": "elbo-r8-s1"}, "have: none, for there are no systems"),
    ):
        with pytest.raises(ConfigError, match=words):
            load(overrides={"generative": overrides})


@pytest.mark.parametrize(
    ("system", "data", "words"),
    [
        ({"rates": [4]}, {}, "zero_shot: generative has no model whole-r1-s1; have: whole-r4-s1"),
        ({"objective": "sparse"}, {}, "whole-r1-s1 has no prior of every coefficient"),
        ({"select": "zone"}, {}, "whole-r1-s1 has no prior of every coefficient"),
        ({"conditional": True}, {}, "model of slices .* not conditional"),
        ({}, {"kind": "volumes", "size": [32, 32, 32]}, "model of slices"),
    ],
)
def test_zero_shot_takes_a_prior_of_every_coefficient_of_slices(system, data, words):
    study = {"restore.zero_shot": "whole-r1-s1", "generative": {"systems": {"whole": WHOLE}}}
    assert load(overrides=study).restore.zero_shot == "whole-r1-s1"
    changed = {"systems": {"whole": WHOLE | system}} | ({"data": data} if data else {})
    with pytest.raises(ConfigError, match=words):
        load(overrides=study | {"generative": changed})


def test_a_walk_stands_beside_the_conventional_model_of_its_rate():
    kinds = ("wavelet", "autoencoder_kl", "dense_vae", "conv_vae")
    systems: dict[str, Any] = {name: {"kind": name} for name in kinds}
    systems |= {"conv_vae": {"kind": "conv_vae", "rates": [4, 8], "seeds": 1}, "again": {"kind": "conv_vae"}}
    study = load(overrides={"generative": {"systems": systems, "seeds": 2}}).generative
    assert study.rival_of("wavelet-r4-s2") == "conv_vae-r4-s1"
    assert study.rival_of("autoencoder_kl-r16-s2") == "again-r16-s2"
    assert study.rival_of("dense_vae-r8-s1") == "conv_vae-r8-s1"
    assert study.rival_of("conv_vae-r8-s1") is None
    assert (
        load(overrides={"generative": {"systems": {"w": {"kind": "wavelet"}}}}).generative.rival_of("w-r4-s1") is None
    )


def test_what_a_tasks_network_leaves_out_is_the_tasks_own_default():
    changed = load(overrides={"networks": {"wavelet_vae": {"recon": {"initial_noise": 0.2}}}}).networks.wavelet_vae
    plain = Config().networks.wavelet_vae
    assert changed.recon == plain.recon.model_copy(update={"initial_noise": 0.2})
    assert changed.recon.rounds != plain.denoise.rounds and changed.ct == plain.ct


# --- the files beside the code ---------------------------------------------------------------------------------------


def test_the_generated_files_have_not_drifted():
    hint = "run `medwvae config --write-defaults configs`"
    assert (CONFIGS / "default.yaml").read_text(encoding="utf-8") == to_yaml(Config(), comments=True), hint
    assert (CONFIGS / "schema.json").read_text(encoding="utf-8") == schema_json(), hint


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.name)
def test_every_configuration_of_the_project_is_valid(file):
    config = load([file])
    schema = json.loads(schema_json())
    jsonschema.validate(yaml.safe_load(file.read_text(encoding="utf-8")), schema)
    jsonschema.validate(config.model_dump(mode="json"), schema)


def test_the_schema_refuses_an_unknown_key():
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"train": {"bach": 1}}, json.loads(schema_json()))


def test_a_file_on_top_takes_a_setting_away(tmp_path):
    below, above = tmp_path / "below.yaml", tmp_path / "above.yaml"
    below.write_text("tasks: {denoise: {settings: {s3: {sigma: 0.03}, s9: {sigma: 0.09}}}}")
    above.write_text("tasks: {denoise: {settings: {s3: null}}}")
    assert load([below, above]).tasks.denoise.settings == {"s9": {"sigma": 0.09}}
    below.write_text("generative: {systems: {one: {kind: conv_vae}, two: {kind: wavelet}}}")
    above.write_text("generative: {systems: {two: null}}")
    assert list(load([below, above]).generative.systems) == ["one"]


def test_trainings_may_have_a_seed_of_their_own():
    assert build.training(load(overrides={"seed": 3}), "denoise", "unet").seed == 3
    assert build.training(load(overrides={"seed": 3, "train.seed": 7}), "denoise", "unet").seed == 7


@pytest.mark.parametrize("own", [{"batch": 2}, {"loss": "mse"}, {"weight_decay": 0.1}, {"budget": "3 s"}])
def test_no_setting_has_a_training_of_its_own(own):
    with pytest.raises(ConfigError, match="all settings share one training"):
        load(overrides={"tasks.denoise.settings": {"s3": own}})


def test_a_task_trains_its_own_way_and_the_others_as_all_do():
    own = {"batch": 3, "loss": "mse", "weight_decay": 0.0, "budget": "7 s"}
    plain, config = load(), load(overrides={"tasks.inpaint": own})
    for name in NETWORKS:
        settings = build.training(config, "inpaint", name)
        assert (settings.batch, settings.loss, settings.weight_decay, settings.seconds) == (3, "mse", 0.0, 7.0)
        assert build.training(config, "superres", name) == build.training(plain, "superres", name)
        assert slice_for(config, "train", "superres", name) == slice_for(plain, "train", "superres", name)
        assert slice_for(config, "restore", "inpaint", name) == slice_for(plain, "restore", "inpaint", name)
        for field, value in own.items():
            changed = load(overrides={f"tasks.inpaint.{field}": value})
            assert slice_for(changed, "train", "inpaint", name) != slice_for(plain, "train", "inpaint", name)


def test_the_wavelet_vae_of_a_task_may_have_its_own_weight_decay():
    plain = load(overrides=["tasks.recon.weight_decay=0.2"])
    config = load(overrides=["tasks.recon.weight_decay=0.2", "networks.wavelet_vae.recon.weight_decay=0.0"])
    found = {name: build.training(config, "recon", name).weight_decay for name in NETWORKS}
    assert found == {name: 0.0 if name == "wavelet_vae" else 0.2 for name in NETWORKS}
    assert build.training(config, "ct", "wavelet_vae").weight_decay == config.train.weight_decay
    build.network(config, "recon", "wavelet_vae")
    changed = {
        name
        for name in NETWORKS
        if slice_for(config, "train", "recon", name) != slice_for(plain, "train", "recon", name)
    }
    assert changed == {"wavelet_vae"}


def test_a_generative_model_may_train_by_muon():
    one: dict[str, Any] = {"kind": "wavelet", "rates": [1]}
    systems = {"one": one, "two": one | {"optimiser": "muon"}}
    config = load(overrides={"generative.systems": systems, "train.matrix_rate": 3.0})
    models = config.generative.models()
    first, second = (build.generative_training(config, model) for model in models.values())
    assert (first.optimiser, second.optimiser, second.matrix_rate) == ("adamw", "muon", 3.0)


@pytest.mark.parametrize("comments", [False, True])
def test_what_is_written_reads_back(tmp_path, comments):
    config = load(
        overrides={"train.batch": 8, "tasks.recon.crop": (64, 32), "report.title": "Ω: 'quoted' # no comment"}
    )
    file = tmp_path / "study.yaml"
    file.write_text(to_yaml(config, comments=comments), encoding="utf-8")
    assert load([file]) == config


# --- slices ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leaf", LEAVES, ids=name_of)
def test_every_field_is_read_by_a_stage(leaf):
    path, field = leaf
    readers = readers_of(path, field.annotation)
    assert bool(readers) != (name_of(leaf) in DECIDES_NO_RESULT)


@pytest.mark.parametrize("leaf", LEAVES, ids=name_of)
def test_a_field_reaches_only_the_stages_of_its_section(leaf):
    path, field = leaf
    readers = readers_of(path, field.annotation)
    stages = {stage[0] for stage in readers}
    allowed = {
        "phantom": {"phantom"},
        "ingest": {"ingest"},
        "input": {"ingest"},
        "split": {"split"},
        "preprocess": {"preprocess", "split"},
        "tasks": {"train", "restore"},
        "networks": {"train", "restore"},
        "train": {"train", "train_generative", "train_prior"},
        "generative": {stage for stage, *_ in GENERATIVE} | {"generative_references", "generative_report", "restore"},
        "restore": {"restore"},
        "classical": {"restore"},
        "evaluate": {"evaluate"},
        "report": {"report"},
        "run": {"report", "generative_report"},
        "results": set(),
        "seed": {"phantom", "split", "train", "restore", "evaluate"}
        | {stage for stage, *_ in GENERATIVE}
        | {"generative_references"},
    }[path[0]]
    if path == ("tasks", "enabled"):
        allowed = {"report"}
    if path[-1] == "settings":  # the report has a section for each
        allowed = allowed | {"report"}
    assert stages <= allowed
    if path[0] in ("tasks", "networks") and len(path) > 2:
        named = set(path) & set(TASKS)
        assert {stage[1] for stage in readers if len(stage) > 1} <= (named or set(TASKS))
    if path[-1] == "budget":
        generative = {"train_prior"} if "prior" in path else {"train_generative", "train_prior"}
        assert stages == {"generative": generative, "train": {"train"}, "tasks": {"train"}}[path[0]]
    if path[0] in ("restore", "classical"):
        networks = {stage for stage in readers if stage[2] in NETWORKS}
        both = path[-1] in ("unsupported", "data_steps")  # a map of any method's result; what each agrees with
        if path == ("restore", "zero_shot"):
            assert {stage[2] for stage in readers} == {ZERO_SHOT}
        else:
            assert both or networks == (readers if path[0] == "restore" else set())
    if path[0] == "generative" and "restore" in stages:
        assert {stage[2] for stage in readers if stage[0] == "restore"} == {ZERO_SHOT}


def test_intervals_are_read_by_the_methods_that_write_some():
    asked = load(overrides={"restore": {"uncertainty": {"level": 0.9}}})
    for method in (*NETWORKS, "tv"):
        same = slice_for(Config(), "restore", "denoise", method) == slice_for(asked, "restore", "denoise", method)
        assert same == (method != "wavelet_vae")
    plain = load(overrides={"restore": {"uncertainty": {"draws": 3}}})
    assert slice_for(Config(), "restore", "denoise", "wavelet_vae") == slice_for(
        plain, "restore", "denoise", "wavelet_vae"
    )


def test_a_network_field_retrains_that_network_only():
    for network, field in (("unet", "features"), ("conv_vae", "beta")):
        path = ("networks", network, field)
        annotation = next(f.annotation for p, f in LEAVES if p == path)
        assert {stage[2] for stage in readers_of(path, annotation)} == {network}
    assert readers_of(("networks", "wavelet_vae", "recon", "blocks"), int) == {
        ("train", "recon", "wavelet_vae"),
        ("restore", "recon", "wavelet_vae"),
    }


def test_a_system_s_own_settings_reach_its_own_models_only():
    systems = STUDY.generative.systems
    after = changed(STUDY, ("generative", "systems"), other(None, systems, "systems"))
    for stage, _, _ in GENERATIVE:
        assert slice_for(STUDY, stage, None, MODEL) != slice_for(after, stage, None, MODEL)
    assert slice_for(STUDY, "score_generative", None, "plain-r8-s1") == slice_for(
        after, "score_generative", None, "plain-r8-s1"
    )
    # More trainings of a system leave those that there are alone.
    more = changed(STUDY, ("generative", "seeds"), {4: 1, 8: 9, 16: 1})
    assert {
        slice_for(more, stage, None, MODEL) == slice_for(STUDY, stage, None, MODEL) for stage, *_ in GENERATIVE
    } == {True}


def test_the_levels_reach_whoever_is_padded_for_them():
    # Whole slices are padded to multiples of 2^levels for every network of the task.
    before = STUDY
    for task in TASKS:
        after = changed(before, ("networks", "wavelet_vae", task, "widths"), (8,) * 5)
        readers = {stage for stage in ALL if slice_for(before, *stage) != slice_for(after, *stage)}
        trained = {("train", *pair) for pair in TRAINED if pair[0] == task}
        assert readers == trained | {("restore", task, "wavelet_vae")}


def test_an_unknown_stage():
    with pytest.raises(KeyError):
        slice_for(Config(), "no such stage")
    for stage in ("train", "train_generative"):
        with pytest.raises(KeyError):
            slice_for(Config(), stage)


def test_tasks_that_are_not_enabled_still_have_a_slice():
    config = load(overrides=["tasks.enabled=[recon]"])
    assert slice_for(config, "train", "denoise", "unet") == slice_for(Config(), "train", "denoise", "unet")


@pytest.mark.parametrize(
    ("generative", "said"),
    [
        ({"prior": {"kind": "diffusion", "steps": 7}}, "does not divide"),
        ({"prior": {"kind": "diffusion", "parts": 2}}, "parts"),
        ({"prior": {"kind": "diffusion"}, "systems": {"a": {"kind": "dense_vae", "prior": True}}}, "no grid"),
        (
            {
                "prior": {"kind": "diffusion", "parts": 1},
                "systems": {"a": {"kind": "wavelet", "objective": "sparse", "prior": True}},
            },
            "paper mode",
        ),
        ({"systems": {"a": {"kind": "conv_vae", "likelihood": "bernoulli"}}}, "slices exceed 1"),
    ],
)
def test_a_generative_study_that_cannot_be_is_refused(generative, said):
    with pytest.raises(ConfigError, match=said):
        load(overrides={"generative": generative})


def test_mirrored_copies_of_all_tasks_or_of_some():
    assert all(Config().restore.mirrors(task) for task in TASKS)
    assert not any(load(overrides={"restore.self_ensemble": False}).restore.mirrors(task) for task in TASKS)
    some = load(overrides=["restore.self_ensemble=[ct,recon]"]).restore
    assert [task for task in TASKS if some.mirrors(task)] == sorted(("ct", "recon"), key=TASKS.index)
    with pytest.raises(ConfigError, match="self_ensemble"):
        load(overrides={"restore.self_ensemble": ["zzz"]})
