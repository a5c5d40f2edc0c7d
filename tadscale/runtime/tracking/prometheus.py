"""What a running job tells Prometheus, through the exporter that every Ray node has.

The list below is all there is: dashboards and alerts under `infra/` ask for these names, with the prefix that Ray adds.
How a run went is in MLflow; these figures are for whoever watches many runs, and end with the Ray cluster.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ray.util.metrics import Gauge

if TYPE_CHECKING:  # the monitor's process counts bad videos, and has no torch
    from tadscale.engine.loop import StepRecord

METRICS: dict[str, tuple[str, tuple[str, ...]]] = {
    "tadscale_training": ("1 while a stage trains, 0 from its end on", ("run", "stage")),
    "tadscale_step": ("Steps that were taken", ("run", "stage")),
    "tadscale_total_steps": ("Steps that the stage's plan has", ("run", "stage")),
    "tadscale_windows_per_s": ("Windows a second, of late", ("run", "stage")),
    "tadscale_data_wait_share": ("Share of the time that training waits for data, of late", ("run", "stage")),
    "tadscale_decoded_frames_per_s": ("Sampled frames decoded a second, of late", ("run", "stage")),
    "tadscale_fetched_bytes_per_s": ("Bytes that storage sent a second, of late", ("run", "stage")),
    "tadscale_cached_share": ("Share of the bytes that came from the nodes' caches, of late", ("run", "stage")),
    "tadscale_remembered_share": ("Share of the windows that were decoded before, of late", ("run", "stage")),
    "tadscale_retries": ("Requests to storage that were made again, since the workers began", ("run", "stage")),
    "tadscale_load_wait_share": ("Share of the time that training waits for fetching and decoding", ("run", "stage")),
    "tadscale_motion_wait_share": ("Share of the time that training waits for motion", ("run", "stage")),
    "tadscale_load_s_per_window": ("Seconds to fetch and decode a window, the mean of late", ("run", "stage")),
    "tadscale_motion_s_per_window": ("Seconds for the motion of a window, the mean of late", ("run", "stage")),
    "tadscale_window_p50_s": (
        "Seconds that a window takes that is not remembered, the median of late",
        ("run", "stage"),
    ),
    "tadscale_window_p95_s": ("Seconds that 19 of 20 such windows do not exceed", ("run", "stage")),
    "tadscale_quarantined_videos": ("Videos of the stage that could not be read", ("run", "stage")),
    "tadscale_gate_promoted": ("1 if the gate made the challenger champion, 0 if it refused", ("run", "model")),
}
"""Name, as given to Ray, to what it says and its tags. Not `job`: that label is Prometheus' own."""
DATA = (
    "tadscale_decoded_frames_per_s",
    "tadscale_fetched_bytes_per_s",
    "tadscale_cached_share",
    "tadscale_remembered_share",
    "tadscale_retries",
    "tadscale_load_wait_share",
    "tadscale_motion_wait_share",
    "tadscale_load_s_per_window",
    "tadscale_motion_s_per_window",
    "tadscale_window_p50_s",
    "tadscale_window_p95_s",
)
"""The figures in a record's `data`."""
STEP_BY_STEP = (
    "tadscale_training",
    "tadscale_step",
    "tadscale_total_steps",
    "tadscale_windows_per_s",
    "tadscale_data_wait_share",
    *DATA,
)
OWN = "tadscale_"
PREFIX = "ray_"
"""What Ray puts before every name."""


def gauge(name: str, **tags: str) -> Gauge:
    """A listed metric of this process, with its tags. Outside of a Ray cluster nobody reads it."""
    description, keys = METRICS[name]
    assert set(tags) == set(keys)
    return Gauge(name, description, tag_keys=keys).set_default_tags(tags)


class StageMetrics:
    """A stage's figures, step by step.

    Args:
        run: name of the job.
        stage: its mode.
    """

    def __init__(self, run: str, stage: str) -> None:
        self._gauges: Mapping[str, Gauge] = {name: gauge(name, run=run, stage=stage) for name in STEP_BY_STEP}

    @contextmanager
    def training(self) -> Iterator[None]:
        """Say that the stage trains while the block runs: its step may stand still afterwards."""
        self._gauges["tadscale_training"].set(1)
        try:
            yield
        finally:
            self._gauges["tadscale_training"].set(0)

    def add(self, record: "StepRecord") -> None:
        """Show one step."""
        self._gauges["tadscale_step"].set(record.step + 1)
        self._gauges["tadscale_total_steps"].set(record.total_steps)
        self._gauges["tadscale_windows_per_s"].set(record.windows_per_s)
        self._gauges["tadscale_data_wait_share"].set(record.data_wait_share)
        for name in DATA:
            if (figure := record.data.get(name.removeprefix(OWN))) is not None:
                self._gauges[name].set(figure)
