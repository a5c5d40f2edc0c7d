"""What decides the plan, as plain settings: every process opens the plan for itself, and none needs torch for it."""

from functools import lru_cache

from tadscale.config import Config
from tadscale.data.manifest import Manifest, read_manifest
from tadscale.data.plan import Plan
from tadscale.data.windows import WindowConfig, tile


class PlanSpec(Config):
    """The part of a stage's settings that decides which window is trained when."""

    data_url: str
    """Shards with their manifest."""
    subset: str
    """Which of the manifest's videos."""
    window: WindowConfig
    """How videos are cut."""
    seed: int
    """Of the shuffle and augmentation."""
    epochs: int
    """Passes over the windows."""
    global_batch: int
    """Windows per optimiser step."""


@lru_cache(maxsize=2)
def open_plan(spec: PlanSpec) -> tuple[Manifest, Plan]:
    """The videos and the plan; a pure function, called once in every process that needs it.

    Raises:
        ValueError: there is no manifest, no video of the subset, or a setting does not fit.
        StorageError: the storage cannot be reached.
    """
    manifest = read_manifest(spec.data_url).subset(spec.subset)
    plan = Plan(
        windows=tile(manifest, spec.window),
        seed=spec.seed,
        global_batch=spec.global_batch,
        epochs=spec.epochs,
        manifest_digest=manifest.digest,
        settings_digest=spec.window.fingerprint(),
    )
    return manifest, plan
