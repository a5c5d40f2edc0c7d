"""What decides the plan, as plain settings: every process opens the plan for itself, and none needs torch for it."""

from functools import lru_cache

from tadscale.config import Config
from tadscale.data.manifest import Manifest
from tadscale.data.plan import Plan
from tadscale.data.source import Source, open_sources, tile_sources
from tadscale.data.windows import WindowConfig


class PlanSpec(Config):
    """The part of a stage's settings that decides which window is trained when."""

    sources: tuple[Source, ...]
    """What is trained on."""
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
        ValueError: a source cannot be used (see `open_sources`), or a setting does not fit.
        StorageError: the storage cannot be reached.
    """
    manifest = open_sources(spec.sources)
    plan = Plan(
        windows=tile_sources(manifest, spec.window),
        seed=spec.seed,
        global_batch=spec.global_batch,
        epochs=spec.epochs,
        manifest_digest=manifest.digest,
        settings_digest=spec.window.fingerprint(),
        shares=tuple(source.share for source in spec.sources),
    )
    return manifest, plan
