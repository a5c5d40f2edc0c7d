"""The job file: one YAML, one run, one frozen tree of settings."""

import difflib
import os
import re
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError, model_validator

from tadscale.config import Config
from tadscale.data.sprites import SpritesConfig
from tadscale.data.windows import WindowConfig
from tadscale.engine.optim import OptimConfig
from tadscale.engine.steps import DistillConfig
from tadscale.flow.motion import MotionConfig
from tadscale.models.config import ModelConfig
from tadscale.runtime.cluster.capacity import ClusterConfig
from tadscale.runtime.tracking.track import TrackingConfig
from tadscale.serving.inference import InferenceConfig

REFERENCE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")


class DataConfig(Config):
    """Where the videos are, and how windows are cut from them."""

    url: str
    """Folder or object-store prefix of the shards and their manifest (`path`, `file://`, `s3://`)."""
    sprites: SpritesConfig | None = None
    """Draw the built-in data there if there is no manifest yet. Leave out for own data."""
    window: WindowConfig = WindowConfig()
    """What the network sees."""
    train_subset: str = "train"
    """Subset that is trained on."""
    test_subset: str = "test"
    """Subset that detections are made and scored on."""
    quarantine_budget: float = Field(default=0.01, ge=0, le=1)
    """Largest share of the videos that may turn out to be unreadable before the run fails."""


class StudentConfig(Config):
    """How the student is trained."""

    mode: Literal["decomposed", "conventional"] = "decomposed"
    """`decomposed`: the paper's dual-branch student. `conventional`: one feature and one detector under both ground
    truth and teacher, for comparison."""
    distill: DistillConfig = DistillConfig()
    """How much the teacher's feature and detections weigh beside ground truth."""


class EvaluateConfig(Config):
    """How detections are made from predictions, and scored."""

    tiou: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7)
    """Temporal IoU thresholds of the mAP."""
    inference: InferenceConfig = InferenceConfig()
    """How detections are read off a network; the registered model does the same."""


class JobConfig(Config):
    """One run."""

    kind: Literal["distill", "teacher", "evaluate"]
    """`distill`: teacher, baseline, student, evaluation, registration. `teacher`: the teacher alone, evaluated.
    `evaluate`: score what an earlier run of the same name and storage trained."""
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run; the same name and storage resume it."""
    storage: str
    """Folder or object-store prefix under which the run keeps its checkpoints, logs and results."""
    seed: int = 0
    """Seed of weights, windows and augmentation."""
    data: DataConfig
    """The videos."""
    motion: MotionConfig = MotionConfig()
    """What the teacher sees."""
    model: ModelConfig = ModelConfig()
    """Backbone and head of teacher, baseline and student alike."""
    optim: OptimConfig = OptimConfig()
    """How all three are trained."""
    student: StudentConfig = StudentConfig()
    """How the student is taught."""
    baseline: bool = True
    """Train the RGB baseline too: without it there is nothing to compare the student with."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """How all of them are scored."""
    checkpoint_every_steps: int = Field(default=200, ge=1)
    """Steps between checkpoints of a stage; there is always one at its end."""
    cluster: ClusterConfig = ClusterConfig()
    """What the run may use of the machines."""
    tracking: TrackingConfig = TrackingConfig()
    """Where the run is recorded and the model registered."""

    @model_validator(mode="after")
    def _workers_share_the_batch(self) -> "JobConfig":
        if self.optim.global_batch % self.cluster.workers:
            raise ValueError(
                f"optim.global_batch = {self.optim.global_batch} is not a multiple of cluster.workers = "
                f"{self.cluster.workers}: every worker takes an equal share of each global batch. Change either."
            )
        return self

    @property
    def run_url(self) -> str:
        """Everything of this run lies under it."""
        return f"{self.storage.rstrip('/')}/{self.name}"


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
    """Replace `${NAME}` and `${NAME:-default}` in every string by the environment's value."""
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

    resolved = REFERENCE.sub(value_of, node)
    # A reference that is the whole value keeps its YAML type, so numbers can come from the environment.
    return yaml.safe_load(resolved) if REFERENCE.fullmatch(node) and resolved else resolved


def check_tree(tree: dict[str, Any], source: str) -> JobConfig:
    """Build the frozen tree, or say of every fault where it is and what would be right."""
    try:
        return JobConfig.model_validate(tree)
    except ValidationError as error:
        faults = "\n".join(f"  {_explain(fault)}" for fault in error.errors())
        raise ValueError(f"{source} does not hold:\n{faults}") from None


def _explain(fault: Any) -> str:
    location = [str(part) for part in fault["loc"]]
    where = ".".join(location) or "job"
    if fault["type"] != "extra_forbidden":
        return f"{where}: {fault['msg'].removeprefix('Value error, ')}"
    valid = _keys_at(location[:-1])
    nearest = difflib.get_close_matches(location[-1], valid, n=1, cutoff=0.5)
    hint = f"did you mean `{nearest[0]}`?" if nearest else f"valid here: {', '.join(valid)}"
    return f"{where}: unknown key; {hint}"


def _keys_at(location: list[str]) -> list[str]:
    """The settings that exist under a path of keys."""
    model: type[BaseModel] | None = JobConfig
    for key in location:
        field = model.model_fields.get(key) if model else None
        model = _model_of(field.annotation) if field else None
    return sorted(model.model_fields) if model else []


def _model_of(annotation: Any) -> type[BaseModel] | None:
    choices = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    models = [choice for choice in choices if isinstance(choice, type) and issubclass(choice, BaseModel)]
    return models[0] if models else None


def job_schema() -> dict[str, Any]:
    """JSON Schema of the job file, for editors: every field with its documentation."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **JobConfig.model_json_schema()}
