"""The run that a decision amounts to: an ordinary distill job, made from the job's file and the champion."""

from dataclasses import dataclass

from tadscale.data.manifest import Manifest
from tadscale.data.motion_identity import motion_fingerprint
from tadscale.data.storage import StorageError
from tadscale.errors import UserError
from tadscale.network import read_spec
from tadscale.retrain.drift import MOTION, distance_shift
from tadscale.retrain.profile import DataProfile, Look, change_since, sampled
from tadscale.retrain.record import Derivation
from tadscale.runtime.models.data_profile import profile_of_run
from tadscale.runtime.models.registry import ModelVersion, Registry
from tadscale.runtime.retrain.incumbent import Incumbent, teacher_of
from tadscale.runtime.retrain.spec import RetrainConfig
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.modes import network_of
from tadscale.runtime.stage.teacher_fit import check_fit
from tadscale.serving.predictor import detector_folder

TEACHER_FOLDER = "/teacher/weights"  # of a run, where its own teacher lies


@dataclass(frozen=True, kw_only=True)
class Derived:
    """How a run takes over from the champion."""

    config: RetrainConfig
    job: JobConfig
    """As its file has it."""
    registry: Registry
    training: Manifest
    look: Look

    def derivation(self, run: str, incumbent: Incumbent | None) -> Derivation:
        """What the run has of the champion.

        Raises:
            UserError: the classes are not the champion's, so that no gate could compare them.
            StorageError: the storage cannot be reached.
        """
        if incumbent is None:
            first = "as the job's file says, this is the first"
            return Derivation(run=run, champion=None, start_says=first, teacher_says=first)
        start, start_says = self._start(incumbent.champion)
        teacher, teacher_says = self._teacher(incumbent)
        return Derivation(
            run=run,
            champion=incumbent.champion.version,
            start=start,
            start_says=start_says,
            teacher=teacher,
            teacher_says=teacher_says,
        )

    def _start(self, champion: ModelVersion) -> tuple[str | None, str]:
        with self.registry.fetch(champion.name, champion.version) as package:
            spec = read_spec(str(detector_folder(package)))
        self._check_classes(champion, spec.classes)
        if not self.config.warm_start:
            return None, "as the job's file says (warm_start is false)"
        own = self.job.model.backbone.model_copy(update={"weights": None})
        if spec.model.backbone.model_copy(update={"weights": None}) != own:
            return None, "as the job's file says: the champion's is another network"
        return f"models:/{champion.name}/{champion.version}", f"version {champion.version}'s"

    def _check_classes(self, champion: ModelVersion, known: tuple[str, ...]) -> None:
        if known != self.training.classes:
            new = sorted(set(self.training.classes) - set(known)) or "none"
            gone = sorted(set(known) - set(self.training.classes)) or "none"
            raise UserError(
                f"the videos have other classes than {champion.name} version {champion.version} (new: {new}, gone: {gone}), "
                "and no gate can compare the two. Correct the annotations; or, if it is meant, run the job itself without a "
                "gate and promote what it registers by hand"
            )

    def _teacher(self, incumbent: Incumbent) -> tuple[str | None, str]:
        if self.job.teacher.url is not None:
            return None, "the one that the job's file names"
        if self.config.teacher.refresh == "always":
            return None, "trained anew (teacher.refresh is always)"
        url = teacher_of(self.registry, incumbent.champion)
        if url is None:
            return None, "trained anew: the champion's run is gone, or does not say where its teacher lies"
        if fault := self._misfit(url):
            return None, f"trained anew: the champion's does not serve ({fault})"
        if self.config.teacher.refresh == "moved" and (moved := self._moved(url, incumbent.profile)):
            return None, f"trained anew: {moved}"
        return url, "the champion's"

    def _misfit(self, url: str) -> str:
        """Why the job's student cannot learn from a teacher; empty if it can."""
        ours = network_of(self.job, self.job.student.mode, self.training.classes)
        ours = ours.model_copy(update={"motion_fingerprint": motion_fingerprint(self.job.motion)})
        try:
            check_fit(read_spec(url), ours, url)
        except (UserError, StorageError) as fault:
            return str(fault)
        return ""

    def _moved(self, url: str, champions: DataProfile | None) -> str:
        """How the videos that the teacher has not seen move otherwise; empty if they do not.

        What it has seen is told by its own run, for it may be older than the champion: slow drift adds up.
        """
        own = profile_of_run(url.removesuffix(TEACHER_FOLDER)) if url.endswith(TEACHER_FOLDER) else None
        seen = own or champions
        if seen is None:
            return "nothing says what the champion's has seen"
        unseen = sampled(change_since(seen, self.training.facts()).new, self.look)
        config = self.config.when.drift.model_copy(update={"distance": self.config.teacher.motion_distance})
        before, now = ([one.look.speed for one in side if one.look] for side in (seen.sample, unseen))
        shift = distance_shift(MOTION, before, now, config)
        return str(shift) if shift and shift.moved else ""


def derived_job(job: JobConfig, made: Derivation) -> JobConfig:
    """The distill job that `run_job` runs."""
    changes: dict[str, object] = {"name": made.run}
    if made.teacher is not None:
        changes["teacher"] = job.teacher.model_copy(update={"url": made.teacher})
    if made.start is not None:
        backbone = job.model.backbone.model_copy(update={"weights": made.start})
        changes |= {"model": job.model.model_copy(update={"backbone": backbone}), "pretrain": None}
    return job.model_copy(update=changes)
