"""`tadscale detect`: a registered or exported model on videos, as a table, JSON or HTML.

Needs neither Ray nor DeepSpeed, and runs no code out of the model: weights and JSON are read, the rest is this package. So
it works where `MLFLOW_ALLOW_MODEL_CODE_EXECUTION=false` refuses pyfunc models.
"""

import json
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from tadscale.data.annotations import detections_document
from tadscale.metrics.tables import DetectionTable, index_of
from tadscale.report.timeline import Timeline
from tadscale.report.timeline_html import timeline_html
from tadscale.runtime.models.open_model import open_model
from tadscale.serving.predictor import Prediction, Predictor
from tadscale.serving.sources import VideoSource, short_names


def detect(
    model: str,
    videos: Sequence[VideoSource],
    *,
    tracking_uri: str | None = None,
    device: str | None = None,
    top_k: int | None = None,
) -> Prediction:
    """Detect actions in videos; one that cannot be used does not stop the others (see `Prediction.failures`).

    Videos are called by their file names without suffix, as data sets do, so that the result can be scored.

    Args:
        model: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `NAME` (its champion), or the folder of a packaged model.
        videos: paths, URLs or encoded videos.
        tracking_uri: of the registry; by default the environment variable MLFLOW_TRACKING_URI.
        device: such as `cpu`; by default a GPU if there is one.
        top_k: the most detections kept of one video; by default as in evaluation.

    Raises:
        ValueError: there is no such model, or it is damaged.
    """
    with open_model(model, tracking_uri) as folder:
        predictor = Predictor.from_directory(folder, device)
    return predictor.predict(videos, short_names(videos), top_k=top_k)


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
