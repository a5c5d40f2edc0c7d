"""The MLflow flavour of an exported detector. MLflow runs this file when the model is loaded: no pickle is involved.

Input: a list or a one-column table (`video`) of paths, URLs (file, http, https, s3, data) or encoded videos as bytes.
Output: a table with the columns video, label, start_s, end_s, score; a video without detections has no row.
"""

from collections.abc import Iterator
from typing import Any

import mlflow
import pandas as pd

from tadscale.serving.predictor import Predictor

COLUMNS = ("video", "label", "start_s", "end_s", "score")


class DetectorModel(mlflow.pyfunc.PythonModel):
    """Detects actions in videos."""

    def load_context(self, context: Any) -> None:
        """Load the weights; called once by MLflow."""
        self._predictor = Predictor.from_directory(context.artifacts["detector"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Detections of all videos, by video and descending score.

        Args:
            context: not used.
            model_input: one column of videos; if there are several, the one called `video`.
            params: `min_score` leaves out what scores less.

        Raises:
            ValueError: names every video that cannot be used; nothing is returned for the others either.
        """
        prediction = self._predictor.predict(list(_videos(model_input)))
        prediction.raise_failures()
        min_score = (params or {}).get("min_score", 0.0)
        rows = [[getattr(row, name) for name in COLUMNS] for row in prediction.detections if row.score >= min_score]
        types = dict.fromkeys(COLUMNS[2:], "float64")
        return pd.DataFrame(rows, columns=list(COLUMNS)).astype(types)


def _videos(table: pd.DataFrame) -> Iterator[str | bytes]:
    if "video" not in table and table.shape[1] != 1:
        raise ValueError(f'the input has the columns {list(table)}: pass one column, or name one "video"')
    for cell in table["video" if "video" in table else table.columns[0]]:
        videos = cell if isinstance(cell, list) else [cell]  # {"video": [...]} arrives as one cell
        for video in videos:
            if not isinstance(video, str | bytes):
                raise ValueError(f"a video is {type(video).__name__} ({video!r:.60}): pass a path, a URL, or bytes")
            yield video


mlflow.models.set_model(DetectorModel())
