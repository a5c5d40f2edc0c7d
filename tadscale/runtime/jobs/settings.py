"""From plain values to settings: single ones given as `a.b=VALUE`, and faults told key by key, in a job file's words."""

from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from tadscale.config import ChosenByName, choices
from tadscale.errors import UserError, nearest
from tadscale.runtime.jobs.yaml_text import parse_yaml

Settings = TypeVar("Settings", bound=BaseModel)


def build_settings(kind: type[Settings], tree: dict[str, Any], source: str) -> Settings:
    """Build the frozen settings, or say of every fault where it is and what would be right.

    Raises:
        UserError: a key is unknown (the message names the nearest valid one), or a value does not fit.
    """
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        faults = "\n".join(f"  {_explain(fault, kind)}" for fault in error.errors())
        raise UserError(f"{source} does not hold:\n{faults}") from None


def parse_options(kind: type[Settings], overrides: list[str], option: str) -> Settings:
    """Settings that were given on the command line alone: `KEY=VALUE` each. Raises as `build_settings` does."""
    tree: dict[str, Any] = {}
    for override in overrides:
        apply_override(tree, override, kind, option)
    return build_settings(kind, tree, option)


def apply_override(tree: dict[str, Any], override: str, kind: type[BaseModel], option: str = "--set") -> None:
    """Set one value in place: `a.b.c=VALUE`, the value read as YAML, or as it stands where the setting is a text.

    Raises:
        UserError: it is not of that form, or `a.b` is a value already.
    """
    path, equals, value = override.partition("=")
    *parents, leaf = (part.strip() for part in path.split("."))
    if not equals or not all([*parents, leaf]):
        raise UserError(f"{option} {override}: expected KEY=VALUE or KEY.KEY=VALUE, as in --set optim.epochs=5")
    node = tree
    for parent in parents:
        child = node.get(parent)
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise UserError(f"{option} {override}: {parent} is a value, not a group of settings")
        node = child
    read = parse_yaml(value, f"{option} {override}")
    node[leaf] = value if read is not None and _is_text([*parents, leaf], kind) else read


def merged(tree: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The tree with the changes in it; what is chosen by another name is replaced whole, all other groups are merged."""
    result = dict(tree)
    for key, change in changes.items():
        old = result.get(key)
        both = isinstance(old, dict) and isinstance(change, dict)
        replaces = isinstance(change, dict) and "name" in change
        result[key] = merged(old, change) if both and not replaces else change  # type: ignore[arg-type]
    return result


def _explain(fault: Any, kind: type[BaseModel]) -> str:
    location = [str(part) for part in fault["loc"]]
    _, where = _descend(location, kind)
    at = ".".join(where) or "settings"
    if fault["type"] == "extra_forbidden":
        return f"{at}: unknown key; {nearest(location[-1], _descend(location[:-1], kind)[0].model_fields)}"
    if fault["type"] == "union_tag_invalid":
        known = [tag.strip().strip("'") for tag in fault["ctx"]["expected_tags"].split(",")]
        return f"{at}.name: there is no {fault['ctx']['tag']!r}; {nearest(str(fault['ctx']['tag']), known)}"
    if fault["type"] == "string_type" and fault["input"] is not None:
        return f"{at}: {fault['input']!r} is not text; if it is meant as text, put it in quotes"
    if fault["type"] == "tuple_type":
        return f"{at}: {fault['input']!r} is no list; write [A, B], or [A] for one"
    if fault["type"] == "dict_type":
        return f"{at}: {fault['input']!r} is no group of settings; write {{KEY: VALUE}}, or {{}} for one without"
    return f"{at}: {fault['msg'].removeprefix('Value error, ')}"


def _is_text(path: list[str], kind: type[BaseModel]) -> bool:
    """Whether a setting is a text, in which `007` is no number."""
    field = _descend(path[:-1], kind)[0].model_fields.get(path[-1])
    return field is not None and (field.annotation is str or set(get_args(field.annotation)) == {str, NoneType})


def _descend(location: list[str], kind: type[BaseModel]) -> tuple[type[BaseModel], list[str]]:
    """The settings class that holds the last key of a path, and the path as a job file has it.

    A fault inside settings that are chosen by name has that name in its path, which a file has not.
    """
    node = kind
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
