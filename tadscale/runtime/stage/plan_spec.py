"""What decides the plan, as plain settings: every process opens the plan for itself, and none needs torch for it."""

from functools import lru_cache

from tadscale.config import Config
from tadscale.data.manifest import Manifest
from tadscale.data.plan import Plan
from tadscale.data.source import Source, open_sources, training_windows
from tadscale.data.windows import WindowConfig
from tadscale.errors import UserError


class PlanSpec(Config):
    """The part of a stage's settings that decides which window is trained when."""

    sources: tuple[Source, ...]
    """What is trained on."""
    window: WindowConfig
    """How videos are cut."""
    seed: int
    """Of the shuffle, augmentation, and which windows are drawn."""
    epochs: int
    """Passes over the windows."""
    global_batch: int
    """Windows per optimiser step."""


class ReadSources(Config):
    """What a process found that read the manifests of a run's sources as a whole: the others need not."""

    digest: str
    """Of what is trained on, all sources together (`Manifest.digest`)."""
    stated: tuple[str, ...]
    """Of all that each source's manifest holds."""

    @classmethod
    def of(cls, manifest: Manifest) -> "ReadSources":
        """Of a manifest that `open_plan` read."""
        return cls(digest=manifest.digest, stated=manifest.stated)


@lru_cache(maxsize=2)
def open_plan(spec: PlanSpec, read: ReadSources | None = None) -> tuple[Manifest, Plan]:
    """The videos and the plan; a pure function, called once in every process that needs it.

    Args:
        spec: which.
        read: what another process found in the manifests. Only their indices are read then, and rows when they are asked
            for: of a million videos some 20 MB in place of all of them. None: they are read and verified as a whole.

    Raises:
        ValueError: a source cannot be used (see `open_sources`), a setting does not fit, or a manifest is no longer the one
            that was read.
        StorageError: the storage cannot be reached.
    """
    manifest = open_sources(spec.sources, verified=read is None)
    if read is not None and read.stated != manifest.stated:
        raise UserError(
            f"{manifest.url}: the manifest is not the one that this run began with: it was made anew of other videos or "
            "annotations meanwhile; start the run again"
        )
    plan = Plan(
        windows=training_windows(manifest, spec.window, spec.seed),
        seed=spec.seed,
        global_batch=spec.global_batch,
        epochs=spec.epochs,
        manifest_digest=manifest.digest if read is None else read.digest,
        settings_digest=spec.window.fingerprint(),
        shares=tuple(source.share for source in spec.sources),
    )
    return manifest, plan
