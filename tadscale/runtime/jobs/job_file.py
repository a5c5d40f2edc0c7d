"""The job file: one YAML, one run. Read, overridden, resolved against the environment, and checked key by key."""

import difflib
import os
import re
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from tadscale.config import ChosenByName, choices
from tadscale.runtime.stage.job import JobConfig

REFERENCE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


def load_job(path: str | Path, overrides: list[str] | None = None) -> JobConfig:
    """Read a job file, apply `a.b=value` overrides, resolve `${ENV}` references, and check every key.

    Raises:
        ValueError: the file is missing or not YAML, a reference has no value, a key is unknown (the message names the
            nearest valid one), or a value does not fit.
    """
    tree = read_yaml(path)
    for override in overrides or []:
        apply_override(tree, override)
    return check_tree(resolve_references(tree), str(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The file as a tree; an empty or non-mapping file is refused."""
    try:
        tree = yaml.safe_load(Path(path).read_text())
    except FileNotFoundError:
        raise ValueError(f"{path}: no such job file. The ones that come with tadscale are under jobs/.") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: a job file is a mapping of settings, this is {type(tree).__name__}.")
    return tree


def apply_override(tree: dict[str, Any], override: str) -> None:
    """Set one value in place: `a.b.c=VALUE`, the value read as YAML."""
    path, equals, value = override.partition("=")
    if not equals or not path.strip():
        raise ValueError(f"--set {override}: expected KEY.KEY=VALUE, as in --set optim.epochs=5")
    *parents, leaf = path.strip().split(".")
    node = tree
    for parent in parents:
        child = node.get(parent)
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise ValueError(f"--set {override}: {parent} is a value, not a group of settings")
        node = child
    node[leaf] = yaml.safe_load(value)


def resolve_references(node: Any, where: str = "") -> Any:
    """Replace `${NAME}` and `${NAME:-default}` in every string by the environment's text.

    Text stays text, whatever it looks like: `007` reaches a name whole, and a field that holds a number reads it as one.
    """
    if isinstance(node, dict):
        return {key: resolve_references(value, f"{where}.{key}" if where else str(key)) for key, value in node.items()}
    if isinstance(node, list):
        return [resolve_references(value, f"{where}[{index}]") for index, value in enumerate(node)]
    if not isinstance(node, str):
        return node

    def value_of(match: re.Match[str]) -> str:
        value = os.environ.get(match["name"], match["default"])
        if value is None:
            raise ValueError(
                f"{where}: ${{{match['name']}}} refers to an environment variable that is not set. "
                f"Set it, or give a default: ${{{match['name']}:-value}}"
            )
        return value

    return REFERENCE.sub(value_of, node)


def check_tree(tree: dict[str, Any], source: str) -> JobConfig:
    """Build the frozen tree, or say of every fault where it is and what would be right."""
    try:
        return JobConfig.model_validate(tree)
    except ValidationError as error:
        faults = "\n".join(f"  {_explain(fault)}" for fault in error.errors())
        raise ValueError(f"{source} does not hold:\n{faults}") from None


def _explain(fault: Any) -> str:
    location = [str(part) for part in fault["loc"]]
    _, where = _descend(location)
    at = ".".join(where) or "job"
    if fault["type"] == "extra_forbidden":
        valid = sorted(_descend(location[:-1])[0].model_fields)
        return f"{at}: unknown key; {_nearest(location[-1], valid)}"
    if fault["type"] == "union_tag_invalid":
        valid = [tag.strip().strip("'") for tag in fault["ctx"]["expected_tags"].split(",")]
        return f"{at}.name: there is no {fault['ctx']['tag']!r}; {_nearest(fault['ctx']['tag'], valid)}"
    return f"{at}: {fault['msg'].removeprefix('Value error, ')}"


def _nearest(word: str, valid: list[str]) -> str:
    nearest = difflib.get_close_matches(word, valid, n=1, cutoff=0.5)
    return f"did you mean `{nearest[0]}`?" if nearest else f"valid here: {', '.join(valid)}"


def _descend(location: list[str]) -> tuple[type[BaseModel], list[str]]:
    """The settings class that holds the last key of a path, and the path as a job file has it.

    A fault inside settings that are chosen by name has that name in its path, which a file has not.
    """
    node: type[BaseModel] = JobConfig
    offered: dict[str, type[BaseModel]] = {}
    path = []
    for key in location:
        if key in offered:
            node, offered = offered[key], {}
            continue
        path.append(key)
        field = node.model_fields.get(key)
        offered = _offered(field) if field else {}
        if len(offered) == 1 and not _chosen(field):
            [node] = offered.values()
            offered = {}
    return node, path


def _chosen(field: Any) -> bool:
    return any(isinstance(note, ChosenByName) for note in field.metadata)


def _offered(field: Any) -> dict[str, type[BaseModel]]:
    """The settings classes that a field may hold, by name where one is chosen by it."""
    annotation = field.annotation
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    models = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
    return dict(choices(annotation)) if _chosen(field) else {model.__name__: model for model in models}


def job_schema() -> dict[str, Any]:
    """JSON Schema of the job file, for editors: every field with its documentation."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **JobConfig.model_json_schema()}
