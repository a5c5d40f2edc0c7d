"""One MLflow run, by its id: parameters, metrics, tags and artifacts. Can be sent to another process."""

import json
import logging
import re
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from tadscale.runtime.tracking.client import make_client
from tadscale.runtime.tracking.patience import PatientClient, TrackingAway, TrackingRefused
from tadscale.runtime.tracking.redact import redact, redact_text

PARENT_TAG = "mlflow.parentRunId"  # what MLflow's pages nest runs by
FLUSH_S = 5.0
FLUSH_METRICS = 500
MAX_METRICS, MAX_PARAMS, MAX_TAGS = 1000, 100, 100  # MLflow's limits of one log_batch call
_FORBIDDEN = re.compile(r"[^\w\-. /:]")

log = logging.getLogger(__name__)


class Run:
    """A handle on a run. Only rank 0 of a training should hold one.

    Metrics are sent in batches, every few seconds; `flush` (or the `with` statement) sends the rest. While the store is
    away or refuses they are kept, and sent when it takes them; all other calls wait for one that is away, and raise what it
    refuses. Between processes the handle travels as tracking URI, run id and patience. Whatever is logged through it has its
    secrets hidden, but for files, which are stored as they are.

    Args:
        tracking_uri: of the store.
        run_id: of the run.
        patience_s: how long a call waits for a store that is away.
    """

    def __init__(self, tracking_uri: str, run_id: str, patience_s: float = 0.0) -> None:
        self.tracking_uri = tracking_uri
        self.run_id = run_id
        self.patience_s = patience_s
        self._pending: list[Any] = []
        self._sending = threading.Lock()
        self._away = False
        self._flushed_at = time.monotonic()

    def __reduce__(self) -> tuple[type["Run"], tuple[str, str, float]]:
        return Run, (self.tracking_uri, self.run_id, self.patience_s)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *error: object) -> None:
        self.flush()

    @cached_property
    def client(self) -> Any:
        """The `MlflowClient` of this process, which waits for a store that is away."""
        return PatientClient(make_client(self.tracking_uri), redact_text(self.tracking_uri), self.patience_s)

    @cached_property
    def _impatient(self) -> Any:
        return PatientClient(make_client(self.tracking_uri), redact_text(self.tracking_uri), patience_s=0.0)

    @cached_property
    def experiment_id(self) -> str:
        """The experiment that the run belongs to."""
        return self.client.get_run(self.run_id).info.experiment_id

    @property
    def artifact_uri(self) -> str:
        """Where the run's artifacts lie."""
        return self.client.get_run(self.run_id).info.artifact_uri

    def log_params(self, settings: Mapping[str, Any]) -> None:
        """Record a tree of settings, flattened: `{"train": {"lr": 1}}` becomes `train.lr`. A run's parameters never change.

        Raises:
            MlflowException: a parameter has another value already.
        """
        from mlflow.entities import Param

        params = [Param(_name(key), value) for key, value in flatten(redact(settings))]
        for batch in _batches(params, MAX_PARAMS):
            self.client.log_batch(self.run_id, params=batch)

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Record one point of each of these series: a step's loss, or a final mAP at step 0."""
        from mlflow.entities import Metric

        now_ms = time.time_ns() // 1_000_000
        self._pending += [Metric(_name(key), float(value), now_ms, step) for key, value in metrics.items()]
        full = len(self._pending) >= FLUSH_METRICS and not self._away
        if full or time.monotonic() - self._flushed_at >= FLUSH_S:
            self._try_to_flush()

    def flush(self) -> None:
        """Send the metrics that still wait.

        Raises:
            TrackingAway: the store was away for longer than the run's patience.
            TrackingRefused: it does not take them.
        """
        self._send(self.client)

    def _try_to_flush(self) -> None:
        """Send what waits, or keep it while the store does not take it: a curve is no reason to stop a training."""
        try:
            self._send(self._impatient)
        except (TrackingAway, TrackingRefused) as error:
            if not self._away:
                says = error if isinstance(error, TrackingRefused) else "the tracking store does not answer"
                log.warning("metrics are kept until they can be sent, and training goes on: %s", says)
            self._away, self._flushed_at = True, time.monotonic()

    def _send(self, client: Any) -> None:
        with self._sending:
            while batch := self._pending[:MAX_METRICS]:
                client.log_batch(self.run_id, metrics=batch)
                del self._pending[: len(batch)]
            self._away, self._flushed_at = False, time.monotonic()

    def logged_steps(self, key: str) -> set[int]:
        """The steps at which a series has a point in the store."""
        return {point.step for point in self.client.get_metric_history(self.run_id, _name(key))}

    def tag(self, key: str) -> str:
        """A tag's value, empty if there is none."""
        return self.client.get_run(self.run_id).data.tags.get(_name(key), "")

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Set tags; one that exists gets the new value."""
        from mlflow.entities import RunTag

        hidden = redact({key: str(value) for key, value in tags.items()})
        entries = [RunTag(_name(key), value) for key, value in hidden.items()]
        for batch in _batches(entries, MAX_TAGS):
            self.client.log_batch(self.run_id, tags=batch)

    def log_dict(self, document: Any, name: str) -> None:
        """Store a document as a JSON artifact, such as `job.json`."""
        self.log_bytes(json.dumps(redact(document), indent=1, default=str).encode(), name)

    def log_text(self, text: str, name: str) -> None:
        """Store a text as an artifact, such as `model_card.md`."""
        self.log_bytes(redact_text(text).encode(), name)

    def log_bytes(self, data: bytes, name: str) -> None:
        """Store a file's contents as the artifact `folder/name.suffix`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, Path(name).name)
            path.write_bytes(data)
            self.log_file(path, str(Path(name).parent))

    def log_file(self, path: Path, folder: str = ".") -> None:
        """Store a local file, as it is, in an artifact folder."""
        self.client.log_artifact(self.run_id, str(path), None if folder in (".", "") else folder)

    def log_folder(self, path: Path, folder: str) -> None:
        """Store all files of a local folder, as they are, in an artifact folder."""
        self.client.log_artifacts(self.run_id, str(path), folder)

    def terminate(self, status: str) -> None:
        """Send what waits and end the run: `FINISHED`, `FAILED` or `KILLED`."""
        self.flush()
        self.client.set_terminated(self.run_id, status)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of a tree of mappings as dotted keys and texts; lists are leaves, written as JSON."""
    for key, value in tree.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{path}.")
        elif isinstance(value, str):
            yield path, value
        else:
            yield path, json.dumps(value, default=str)


def _name(key: str) -> str:
    """A key as MLflow allows it: `mAP@0.5` becomes `mAP_0.5`."""
    return _FORBIDDEN.sub("_", key)


def _batches(items: Sequence[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
