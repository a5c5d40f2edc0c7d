"""The job file: one YAML, one run. Read, overridden, resolved against the environment, and checked key by key."""

import os
import re
from pathlib import Path
from typing import Any

from tadscale.errors import UserError
from tadscale.paths import expand_home
from tadscale.runtime.jobs.settings import apply_override, build_settings
from tadscale.runtime.jobs.yaml_text import MAX_BYTES, parse_yaml
from tadscale.runtime.stage.job import JobConfig

REFERENCE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")

RUN_JOBS = {"grid": "a grid of jobs", "retrain": "a retraining, which runs a job when its data ask for it"}
"""Kinds of files that `tadscale run` takes beside jobs."""


def load_job(path: str | Path, overrides: list[str] | None = None) -> JobConfig:
    """Read a job file, apply `a.b=value` overrides, resolve `${ENV}` references and `~`, and check every key.

    Raises:
        UserError: the file is missing or not YAML, or is one that runs jobs, a key stands twice, a reference has no value, a
            key is unknown (the message names the nearest valid one), or a value does not fit.
    """
    tree = read_yaml(path)
    if what := RUN_JOBS.get(str(tree.get("kind"))):
        named = f": give the one that it names, {Path(path).parent / str(tree['job'])}" if tree.get("job") else ""
        raise UserError(f"{path} is {what}, and this takes a job{named}")
    for override in overrides or []:
        apply_override(tree, override, JobConfig)
    return build_settings(JobConfig, resolve(tree), str(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The file as a tree; an empty or non-mapping file is refused."""
    try:
        with Path(expand_home(str(path))).open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode()
    except FileNotFoundError:
        raise UserError(f"{path}: no such job file. The ones that come with tadscale are under jobs/.") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8 (byte {error.start}): no job file.") from None
    tree = parse_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise UserError(f"{path}: a job file is a mapping of settings, this is {type(tree).__name__}.")
    return tree


def resolve(node: Any, where: str = "") -> Any:
    """Replace `${NAME}` and `${NAME:-default}` in every text by the environment's, then a leading `~` by the home folder.

    Text stays text, whatever it looks like: `007` reaches a name whole, and a field that holds a number reads it as one.
    The home folder is that of where the job is started: its machines need not have the same.
    """
    if isinstance(node, dict):
        return {key: resolve(value, f"{where}.{key}" if where else str(key)) for key, value in node.items()}
    if isinstance(node, list):
        return [resolve(value, f"{where}[{index}]") for index, value in enumerate(node)]
    if not isinstance(node, str):
        return node

    def value_of(match: re.Match[str]) -> str:
        value = os.environ.get(match["name"], match["default"])
        if value is None:
            raise UserError(
                f"{where}: ${{{match['name']}}} refers to an environment variable that is not set. "
                f"Set it, or give a default: ${{{match['name']}:-value}}"
            )
        return value

    return expand_home(REFERENCE.sub(value_of, node))
