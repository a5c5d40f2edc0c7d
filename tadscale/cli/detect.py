"""`tadscale detect`: a registered or exported model on videos, as a table, JSON or HTML.

Needs neither Ray nor DeepSpeed, and runs no code out of the model: weights and JSON are read, the rest is this package. So
it works where `MLFLOW_ALLOW_MODEL_CODE_EXECUTION=false` refuses pyfunc models.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.table import Table
from rich.text import Text

from tadscale.data.annotations import detections_document
from tadscale.metrics.tables import DetectionTable, index_of
from tadscale.report.timeline import Timeline
from tadscale.report.timeline_html import timeline_html
from tadscale.runtime.models.registry import CHAMPION, Registry
from tadscale.serving.predictor import Prediction, Predictor
from tadscale.serving.sources import VideoSource, short_names

MODELS = "models:/"


def detect(
    model: str, videos: Sequence[VideoSource], *, tracking_uri: str | None = None, device: str | None = None
) -> Prediction:
    """Detect actions in videos; one that cannot be used does not stop the others (see `Prediction.failures`).

    Videos are called by their file names without suffix, as data sets do, so that the result can be scored.

    Args:
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `NAME` (its champion), or the folder of a packaged model.
        videos: paths, URLs or encoded videos.
        tracking_uri: of the registry; by default the environment variable MLFLOW_TRACKING_URI.
        device: such as `cpu`; by default a GPU if there is one.

    Raises:
        ValueError: there is no such model, or it is damaged.
    """
    with open_model(model, tracking_uri) as folder:
        predictor = Predictor.from_directory(folder, device)
    return predictor.predict(videos, short_names(videos))


@contextmanager
def open_model(model: str, tracking_uri: str | None = None) -> Iterator[Path]:
    """The folder of a packaged model, downloaded if need be for as long as the `with` block lasts; see `detect`."""
    if not model.startswith(MODELS) and Path(model).is_dir():
        yield Path(model)
        return
    name, selector = parse_model(model)
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not uri:
        raise ValueError(
            f"{model} is no folder, and no registry is named that could have it: set MLFLOW_TRACKING_URI, such as "
            "http://HOST:5000 or sqlite:////absolute/path/mlflow.db"
        )
    with Registry(uri).fetch(name, selector) as folder:
        yield folder


def parse_model(model: str) -> tuple[str, str]:
    """Name and selector (an alias or a version number) of `models:/NAME@ALIAS`, `models:/NAME/VERSION` or `NAME`.

    Raises:
        ValueError: it is none of these.
    """
    text = model.removeprefix(MODELS)
    name, separator, selector = text.partition("@" if "@" in text else "/")
    if not separator:
        selector = CHAMPION
    if not name or not selector or "/" in selector or ":" in name or name.startswith("."):
        raise ValueError(
            f"{model!r} is neither a folder nor a model: write models:/NAME@champion, models:/NAME/3, NAME, or the path of "
            "a packaged model's folder"
        )
    return name, selector


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
    return table


def prediction_json(prediction: Prediction, *, min_score: float = 0.0) -> str:
    """Detections as ActivityNet JSON; every video that could be used is in it, also one without a detection."""
    rows = [row for row in prediction.detections if row.score >= min_score]
    found = DetectionTable.from_detections(rows)
    videos = tuple(prediction.duration_s)
    table = DetectionTable(
        videos=videos,
        labels=found.labels,
        video=index_of([row.video for row in rows], videos),
        label=found.label,
        segments_s=found.segments_s,
        score=found.score,
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
