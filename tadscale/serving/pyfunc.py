"""The MLflow flavour of an exported detector. MLflow runs this file when the model is loaded: no pickle is involved.

Input: a list of paths, URLs (of `tadscale.serving.access`) or encoded videos as bytes, or a table with a column `video` of
these. Output: a table with the columns video, label, start_s, end_s, score; a video without detections has no row.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from tadscale.errors import UserError
from tadscale.segments import Detection
from tadscale.serving.access import Access
from tadscale.serving.predictor import Prediction, Predictor
from tadscale.serving.sources import VideoSource, is_inline, source_name

COLUMNS = ("video", "label", "start_s", "end_s", "score")

log = logging.getLogger(__name__)


class DetectorModel(mlflow.pyfunc.PythonModel):
    """Detects actions in videos."""

    def load_context(self, context: Any) -> None:
        """Load the weights; called once by MLflow."""
        self._predictor = Predictor.from_directory(context.artifacts["detector"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Detections of all videos, by video and descending score.

        Args:
            context: not used.
            model_input: a list of videos; or a table or dictionary with one column, or of several the one called `video`.
                (The hint says table, as MLflow's own class does; MLflow passes on what it was given.)
            params: `min_score` leaves out what scores less; `top_k` is the most detections kept of one video.

        Raises:
            UserError: `min_score` is no number, or `top_k` not positive.
            ValueError: names every video that cannot be used; nothing is returned for the others either.
        """
        videos, access, asked = list(_videos(model_input)), Access.from_environment(), params or {}
        min_score = _number(asked.get("min_score", 0.0))
        prediction = self._predictor.predict(videos, top_k=asked.get("top_k"), access=access)
        _raise_failures(prediction, videos, access)
        for name, limit in prediction.limited.items():
            log.warning("%s: only the %d strongest detections; ask for more with the parameter top_k", name, limit)
        return _table([row for row in prediction.detections if row.score >= min_score])


def _number(min_score: float) -> float:
    if math.isnan(min_score):
        raise UserError("min_score is nan, which no score is at least: give a number, or leave it out")
    return min_score


def _table(detections: Sequence[Detection]) -> pd.DataFrame:
    """A row each. A file's name may be no text; pandas then has to keep names as they are, for Arrow takes text alone."""
    columns = {name: [getattr(row, name) for row in detections] for name in COLUMNS}
    try:
        videos = pd.Series(columns["video"], dtype=None if detections else object)
    except UnicodeEncodeError:
        videos = pd.Series(columns["video"], dtype=object)
    types = dict.fromkeys(COLUMNS[2:], "float64")
    return pd.DataFrame(columns | {"video": videos}, columns=list(COLUMNS)).astype(types)


def _raise_failures(prediction: Prediction, videos: list[VideoSource], access: Access) -> None:
    """Why a video is bad is told to who sent its bytes. Of what was fetched the answer is always the same.

    Else the answers would tell a stranger which files there are on the server, and which ports are open in its network.
    """
    inline = {source_name(video, index) for index, video in enumerate(videos) if is_inline(video)}
    for name, reason in prediction.failures.items():
        log.warning("%r cannot be used: %s", name, reason)
        if name not in inline:
            prediction.failures[name] = (
                f"cannot be fetched, or holds no video that can be read (allowed are {', '.join(access.schemes)}; the "
                "reason is in the log where the model runs)"
            )
    prediction.raise_failures()


def _videos(given: Any) -> Iterator[VideoSource]:
    """The videos of whatever MLflow passes on: a table, a dictionary of columns, a list, an array, or one alone."""
    if isinstance(given, pd.DataFrame | Mapping):
        columns = list(given)
        if "video" not in columns and len(columns) != 1:
            raise ValueError(f'the input has the columns {columns}: pass one column, or name one "video"')
        given = given["video" if "video" in columns else columns[0]]
    for cell in [given] if isinstance(given, str | bytes | bytearray | memoryview | Path) else given:
        for video in cell if isinstance(cell, list) else [cell]:  # {"video": [...]} may arrive as one cell
            if isinstance(video, bytearray | memoryview):
                video = bytes(video)
            if not isinstance(video, str | bytes | Path):
                raise ValueError(f"a video is {type(video).__name__} ({video!r:.60}): pass a path, a URL, or bytes")
            yield video


mlflow.models.set_model(DetectorModel())
