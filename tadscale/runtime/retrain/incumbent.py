"""Who reigns, what it was trained on, and who was trained last: what a tick compares the data with."""

from collections.abc import Sequence
from dataclasses import dataclass

from tadscale.data.storage import join
from tadscale.retrain.profile import DataProfile
from tadscale.runtime.jobs.named_models import LAID_TEACHER
from tadscale.runtime.models.data_profile import read_profile
from tadscale.runtime.models.open_model import MODELS
from tadscale.runtime.models.registry import DETECTOR_TAG, ModelVersion, NotRegistered, Registry
from tadscale.runtime.models.succession import CHALLENGER, CHAMPION
from tadscale.runtime.stage.local_paths import absolute
from tadscale.runtime.tracking.track import JOB_TAG, STORAGE_TAG

UNSET = "null"  # how a run's parameters write what a job leaves out


@dataclass(frozen=True, kw_only=True)
class Incumbent:
    """The champion, and who has tried to replace it since."""

    champion: ModelVersion
    profile: DataProfile | None
    """What the champion was trained on; None if it is older than profiles, or its run is gone."""
    challenger: ModelVersion | None
    """The latest try; it may have been refused. None if that one reigned and was rolled back."""
    latest: DataProfile | None
    """What the newest version was trained on, whatever became of it: that it was refused, or reigned and was rolled back, is
    no reason to train the same again."""

    @property
    def digest(self) -> str:
        """The champion by content."""
        return self.champion.tags.get(DETECTOR_TAG, str(self.champion.version))


def find_incumbent(registry: Registry, name: str) -> Incumbent | None:
    """The champion of a registered model, None if there is none yet.

    Raises:
        ChampionGone: there was one, and it was deleted: what is trained could be held against nobody.
        TrackingAway: MLflow cannot be reached.
    """
    champion = _version(registry, name, CHAMPION)
    if champion is None:
        return None
    profile = read_profile(registry, champion)
    later = [number for number in reversed(registry.numbers(name)) if number > champion.version]
    tried = (read_profile(registry, registry.version(name, number)) for number in later)
    challenger = _version(registry, name, CHALLENGER) or _without_alias(registry, name, later)
    return Incumbent(
        champion=champion, profile=profile, challenger=challenger, latest=next(filter(None, tried), profile)
    )


def teacher_of(registry: Registry, version: ModelVersion) -> str | None:
    """Where the teacher of a version lies: its own run's, or the one that its job names.

    None if its run is gone, or does not say: a version that was brought from another registry has one that no job of ours
    wrote.
    """
    run = registry.run_of(version)
    if run is None:
        return None
    named, tags = run.data.params.get("teacher.url", UNSET), run.data.tags
    if named != UNSET and not named.startswith(MODELS):
        return absolute(named)
    if not {STORAGE_TAG, JOB_TAG} <= tags.keys():
        return None
    folder = "teacher/weights" if named == UNSET else LAID_TEACHER
    return join(tags[STORAGE_TAG], tags[JOB_TAG], folder)


def _without_alias(registry: Registry, name: str, later: Sequence[int]) -> ModelVersion | None:
    """The newest version if it was killed before it was made challenger; one that reigned was promoted."""
    reigned = {move.target for move in registry.moves(name) if move.made}
    return registry.version(name, later[0]) if later and later[0] not in reigned else None


def _version(registry: Registry, name: str, alias: str) -> ModelVersion | None:
    try:
        return registry.version(name, alias)
    except NotRegistered:
        return None
