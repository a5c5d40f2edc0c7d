"""`tadscale detect`: a registered or exported model on videos, as a table, JSON or HTML.

Needs neither Ray nor DeepSpeed, and runs no code out of the model: weights and JSON are read, the rest is this package. So
it works where `MLFLOW_ALLOW_MODEL_CODE_EXECUTION=false` refuses pyfunc models.
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from tadscale.data.annotations import detections_document
from tadscale.data.folder import list_folder
from tadscale.data.keys import VIDEO_SUFFIXES, as_text, video_key
from tadscale.data.suspicions import Suspicions
from tadscale.data.watched import Watch, unwatched
from tadscale.errors import UserError
from tadscale.metrics.tables import DetectionTable, index_of
from tadscale.report.timeline import Timeline
from tadscale.report.timeline_html import timeline_html
from tadscale.runtime.models.open_model import open_model
from tadscale.serving.predictor import Prediction, Predictor
from tadscale.serving.sources import VideoSource, short_names, source_name


def detect(
    model: str,
    videos: Sequence[VideoSource],
    *,
    tracking_uri: str | None = None,
    device: str | None = None,
    top_k: int | None = None,
    watch: Watch = unwatched,
) -> Prediction:
    """Detect actions in videos; one that cannot be used does not stop the others (see `Prediction.failures`).

    Videos are called by their file names without suffix, as data sets do, so that the result can be scored; those of a
    folder by their path in it, as `tadscale data pack` does.

    Args:
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `NAME` (its champion), or the folder of a packaged model.
        videos: paths, URLs, encoded videos, or folders of videos.
        tracking_uri: of the registry; by default the environment variable MLFLOW_TRACKING_URI.
        device: such as `cpu`; by default a GPU if there is one.
        top_k: the most detections kept of one video; by default as in evaluation.
        watch: told after each video how many are done.

    Raises:
        ValueError: there is no such model, or it is damaged, or a folder holds no video.
    """
    sources, names = _named(videos)
    with open_model(model, tracking_uri) as folder:
        predictor = Predictor.from_directory(folder, device)
    return predictor.predict(sources, names, top_k=top_k, watch=watch)


def _named(videos: Sequence[VideoSource]) -> tuple[list[VideoSource], list[str]]:
    """The videos, folders opened, and what each is called; by all that was given where two would be called the same."""
    found: list[tuple[VideoSource, str]] = []
    for video, name in zip(videos, short_names(videos), strict=True):
        found += _in_folder(video) if not isinstance(video, bytes) and os.path.isdir(video) else [(video, name)]
    times = Counter(name for _, name in found)
    names = [name if times[name] == 1 else source_name(source, index) for index, (source, name) in enumerate(found)]
    return [source for source, _ in found], [as_text(name) for name in names]


def _in_folder(folder: str | Path) -> list[tuple[VideoSource, str]]:
    """The videos of a folder and below, and the key of each."""
    paths = [path for path in list_folder(str(folder)).files if path.rpartition(".")[2].lower() in VIDEO_SUFFIXES]
    if not paths:
        raise UserError(f"{folder}: no video in this folder or below it: files of suffix {', '.join(VIDEO_SUFFIXES)}")
    return [(Path(folder, path), video_key(path)) for path in paths]


def warnings_of(prediction: Prediction) -> list[str]:
    """What is remarkable about the videos' files, in the words of `tadscale data pack`; none if nothing is."""
    seen = Suspicions()
    for name, info in prediction.info.items():
        seen.see(name, {"annotations": []}, info)
    return seen.warnings()


def prediction_table(prediction: Prediction, *, min_score: float = 0.0) -> Table:
    """Detections for a terminal, one row each."""
    table = Table()
    for heading in ("video", "label"):
        table.add_column(heading)
    for heading in ("start, s", "end, s", "score"):
        table.add_column(heading, justify="right")
    for row in prediction.detections:
        if row.score >= min_score:
            # As Text: a video called "[red]" is a name and not markup.
            table.add_row(
                Text(row.video), Text(row.label), f"{row.start_s:.2f}", f"{row.end_s:.2f}", f"{row.score:.4f}"
            )
    if hidden := len(prediction.detections) - table.row_count:
        table.caption = f"{hidden} weaker than {min_score:g} are not shown (--min-score)"
    return table


def prediction_json(prediction: Prediction, *, min_score: float = 0.0) -> str:
    """Detections as ActivityNet JSON; every video that could be used is in it, also one without a detection."""
    rows = [row for row in prediction.detections if row.score >= min_score]
    columns = DetectionTable.from_detections(rows)
    videos = tuple(prediction.duration_s)
    table = DetectionTable(
        videos=videos,
        labels=columns.labels,
        video=index_of([row.video for row in rows], videos),
        label=columns.label,
        segments_s=columns.segments_s,
        score=columns.score,
    )
    return json.dumps(detections_document(table), indent=1, allow_nan=False)


def prediction_html(prediction: Prediction, model: str, *, min_score: float = 0.0) -> str:
    """Detections as a page with a timeline a video; `model` is what the rows are called."""
    rows: dict[str, list] = {video: [] for video in prediction.duration_s}
    for row in prediction.detections:
        if row.score >= min_score:
            rows[row.video].append(row)
    timelines = [
        Timeline(video=video, duration_s=duration_s, detections={model: rows[video]})
        for video, duration_s in prediction.duration_s.items()
    ]
    return timeline_html(timelines, title=f"Detections of {model}")
