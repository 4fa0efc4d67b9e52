"""Reading a configuration: overlays, overrides, errors with the line and the nearest name; writing it back."""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from medwvae.config import Config
from medwvae.errors import ConfigError

Keys = tuple[str | int, ...]


def load(files: Iterable[str | Path] = (), overrides: Mapping[str, Any] | Sequence[str] = ()) -> Config:
    """Merge YAML overlays left to right, then overrides, and validate.

    Parameters
    ----------
    files : iterable of path
        Overlays; later ones win, key by key.
    overrides : mapping, or sequence of "a.b=value"
        Nested mapping (keys may also be dotted, or joined by two underscores), or assignments whose values are YAML.

    Raises
    ------
    ConfigError
        With the file and line of the offending key and the nearest valid name.
    """
    merged: dict[str, Any] = {}
    lines: dict[Keys, str] = {}
    for file in files:
        content = _read(Path(file))
        lines |= _lines(Path(file))
        merged = _merge(merged, content)
    for keys, value in _assignments(overrides):
        lines[keys] = "command line"
        nested: Any = value
        for key in reversed(keys):
            nested = {key: nested}
        merged = _merge(merged, nested)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(e["loc"], e["type"], e["msg"], lines) for e in error.errors())) from None


def to_yaml(config: Config, *, comments: bool = False) -> str:
    """Return the configuration as YAML; with `comments`, each key under its description."""
    if not comments:
        return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return "\n".join(_commented(config, 0)) + "\n"


def schema_json() -> str:
    """Return the JSON schema of the configuration, as configs/schema.json holds it."""
    return json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: the configuration is not UTF-8 text; save it as UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{where}: not valid YAML ({problem})") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected sections like `train:`, found {type(content).__name__}")
    return content


def _lines(path: Path) -> dict[Keys, str]:
    """Map every key path of a YAML file to 'file:line'."""
    found: dict[Keys, str] = {}

    def walk(node: yaml.Node, keys: Keys) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                inner = (*keys, key.value)
                found[inner] = f"{path}:{key.start_mark.line + 1}"
                walk(value, inner)

    root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    if root is not None:
        walk(root, ())
    return found


def _merge(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return base | {key: _merge(base.get(key), value) for key, value in over.items()}
    return over


def _assignments(overrides: Mapping[str, Any] | Sequence[str]) -> list[tuple[Keys, Any]]:
    if isinstance(overrides, Mapping):
        return [(keys, value) for key, inner in overrides.items() for keys, value in _leaves(_split(str(key)), inner)]
    pairs: list[tuple[Keys, Any]] = []
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"override {text!r}: expected key=value, for example train.batch=8")
        try:
            pairs.append((_split(key.strip()), yaml.safe_load(value) if value else None))
        except yaml.YAMLError:
            raise ConfigError(f"override {text!r}: the value is not valid YAML") from None
    return pairs


def _split(key: str) -> Keys:
    return tuple(key.replace("__", ".").split("."))


def _leaves(prefix: Keys, value: Any) -> list[tuple[Keys, Any]]:
    if isinstance(value, Mapping) and value:
        return [leaf for key, inner in value.items() for leaf in _leaves((*prefix, *_split(str(key))), inner)]
    return [(prefix, None if value == "null" else value)]  # Snakemake's --config hands everything on as text


def _explain(location: Keys, kind: str, message: str, lines: Mapping[Keys, str]) -> str:
    written, here = _written(location)
    where = next((lines[written[:n]] for n in range(len(written), 0, -1) if written[:n] in lines), "configuration")
    name = ".".join(str(key) for key in written)
    if kind == "union_tag_not_found":
        return f"{where}: {name}.kind is missing; have: {', '.join(here)}"
    if kind != "extra_forbidden":
        return f"{where}: {name + ': ' if name else ''}{message.removeprefix('Value error, ')}"
    _, valid = _written(location[:-1])
    near = difflib.get_close_matches(str(location[-1]), valid, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else f"valid keys here: {', '.join(valid)}"
    return f"{where}: unknown key `{name}`; {hint}"


def _written(location: Keys) -> tuple[Keys, list[str]]:
    """Return a location as the user wrote it, without the tags of unions, and the valid keys (or kinds) there."""
    annotation: Any = Config
    around: type[BaseModel] = Config
    written: list[str | int] = []
    for key in location:
        models = _kinds(annotation)
        if len(models) > 1 and key in models:
            annotation = models[str(key)]
            continue
        if key == "[key]":  # pydantic's word for the name itself
            continue
        written.append(key)
        section = next(iter(models.values()), None)
        if section is not None:
            around, field = section, section.model_fields.get(str(key))
            annotation = None if field is None else field.annotation
        else:  # own names, each with a section, or with changes to the section that they are in
            inner = get_args(annotation)[-1] if get_origin(annotation) is dict else None
            annotation = around if get_origin(inner) is dict else inner
    models = _kinds(annotation)
    return tuple(written), list(models) if len(models) > 1 else [k for m in models.values() for k in m.model_fields]


def _kinds(annotation: Any) -> dict[str, type[BaseModel]]:
    """Return the sections that an annotation allows, by kind (by name where they have none)."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kind = annotation.model_fields.get("kind")
        return {get_args(kind.annotation)[0] if kind else annotation.__name__: annotation}
    if get_origin(annotation) is dict:
        return {}
    return {kind: model for inner in get_args(annotation) for kind, model in _kinds(inner).items()}


def _commented(section: BaseModel, depth: int) -> list[str]:
    indent = "  " * depth
    out: list[str] = []
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            heading = (type(value).__doc__ or "").strip().splitlines()[0]
            out += ([""] if depth == 0 else []) + [f"{indent}# {heading}", f"{indent}{name}:"]
            out += _commented(value, depth + 1)
        else:
            plain = section.model_dump(mode="json")[name]
            text = yaml.safe_dump(plain, default_flow_style=True, allow_unicode=True, width=1000).removesuffix("\n")
            text = text.removesuffix("...").strip()
            out.append(f"{indent}{name}: {text}" + (f"  # {field.description}" if field.description else ""))
    return out
