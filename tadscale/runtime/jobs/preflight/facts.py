"""What checks know of a job: its stages, its videos, its services. Each thing is looked up once, failures included."""

from collections.abc import Callable
from typing import Any

from tadscale.data.manifest import Manifest, VideoRow, make_manifest, read_manifest
from tadscale.data.source import open_sources
from tadscale.data.sprites import SUBSETS, SpritesConfig, class_names, write_script
from tadscale.network import Mode
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.local_paths import with_absolute_paths
from tadscale.runtime.stage.modes import DISTILLING, stage_modes
from tadscale.runtime.tracking.track import resolve_tracking_uri

SCRIPTED = 64  # videos of a subset that is still to be drawn: enough to see whether anything happens in them


def remembered(method: Callable[[Any], Any]) -> Any:
    """A property that is worked out once. An error is remembered, too: storage that is away is asked once, not ten times."""
    known = f"_{method.__name__}"

    def get(self: Any) -> Any:
        if known not in self.__dict__:
            try:
                self.__dict__[known] = (method(self), None)
            except (ValueError, OSError) as error:
                self.__dict__[known] = (None, error)
        value, failure = self.__dict__[known]
        if failure is not None:
            raise failure
        return value

    return property(get, doc=method.__doc__)


class Facts:
    """A job, and what is found out about it on demand.

    Args:
        job: as its file has it.
    """

    def __init__(self, job: JobConfig) -> None:
        self.given = job
        self.job = with_absolute_paths(job)
        self.modes: list[Mode] = stage_modes(job)

    @property
    def evaluates(self) -> bool:
        """Whether detections are made and scored."""
        return self.job.kind != "pretrain"

    @property
    def draws(self) -> bool:
        """Whether the videos are the built-in ones alone, which are known without looking."""
        return self.job.data.sprites is not None and not self.job.data.sources

    @property
    def learns_from_truth(self) -> bool:
        """Whether a stage would learn nothing without annotated segments."""
        return any(mode != "pretrain" for mode in self.modes)

    @property
    def needs_motion(self) -> bool:
        """Whether motion is computed in any stage, or for a teacher's evaluation."""
        return any(mode != "baseline" for mode in self.modes) or not self.modes

    @property
    def distils(self) -> bool:
        """Whether a stage learns from a teacher."""
        return any(mode in DISTILLING for mode in self.modes)

    @remembered
    def data(self) -> Manifest:
        """The videos under `data.url`; the built-in ones as they are, or will be, drawn there."""
        data = self.job.data
        return read_manifest(data.url) if data.sprites is None else _scripted(data.sprites, data.url)

    @remembered
    def training(self) -> Manifest:
        """All that is trained on, of all sources."""
        data = self.job.data
        return open_sources(data.training_sources) if not self.draws else self.data.subset(data.train_subset)

    @remembered
    def labelled_training(self) -> Manifest:
        """What is trained on with ground truth."""
        sources = self.job.data.training_sources
        if self.draws or all(source.labelled for source in sources):
            return self.training
        return open_sources([source for source in sources if source.labelled])

    @remembered
    def test(self) -> Manifest:
        """What is scored on."""
        return self.data.subset(self.job.data.test_subset)

    @property
    def selects(self) -> bool:
        """Whether an epoch is chosen on the validation subset."""
        return self.evaluates and self.job.evaluate.select == "validation"

    @remembered
    def validation(self) -> Manifest:
        """What an epoch is chosen on."""
        return self.data.subset(self.job.data.validation_subset)

    @remembered
    def tracking_uri(self) -> str:
        """Of the tracking store."""
        return resolve_tracking_uri(self.job.tracking, self.job.storage)


def _scripted(config: SpritesConfig, url: str) -> Manifest:
    """The beginning of each subset of the built-in videos, without their pictures."""
    rows = [
        _row(config, url, subset, index)
        for subset in SUBSETS
        for index in range(min(SCRIPTED, getattr(config, subset)))
    ]
    return make_manifest(url, rows, class_names(config))


def _row(config: SpritesConfig, url: str, subset: str, index: int) -> VideoRow:
    segments = write_script(config, subset, index).segments
    return VideoRow(
        url=url,
        key=f"{subset}-{index:05d}",
        subset=subset,
        video_offset=0,
        video_bytes=0,
        video_sha256="",
        duration_s=config.duration_s,
        fps=config.fps,
        frames=round(config.duration_s * config.fps),
        width=config.size,
        height=config.size,
        labels=tuple(segment.label for segment in segments),
        start_s=tuple(segment.start_s for segment in segments),
        end_s=tuple(segment.end_s for segment in segments),
    )
