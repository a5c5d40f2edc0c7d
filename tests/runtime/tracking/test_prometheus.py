"""What is shown to Prometheus: listed names alone, and the figures of the step."""

import subprocess
import sys
import time
import urllib.request
from dataclasses import replace

import pytest

from tadscale.engine.loop import StepRecord
from tadscale.runtime.tracking import prometheus
from tadscale.runtime.tracking.prometheus import METRICS, PREFIX, STEP_BY_STEP, StageMetrics, gauge

RECORD = StepRecord(
    step=3,
    total_steps=10,
    epoch=0,
    lr=0.1,
    grad_norm=1.0,
    windows_per_s=2.5,
    data_wait_share=0.25,
    memory_mib=1.0,
    eta_s=1.0,
)


class Noted:
    """A gauge that keeps what it was set to."""

    shown: dict[tuple[str, ...], float] = {}

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        assert description
        self._name = name

    def set_default_tags(self, tags: dict[str, str]) -> "Noted":
        self._key = (self._name, *tags.values())
        return self

    def set(self, value: float) -> None:
        self.shown[self._key] = value


def test_a_step_s_figures_and_whether_it_trains(monkeypatch):
    monkeypatch.setattr(prometheus, "Gauge", Noted)
    metrics = StageMetrics("sprites", "teacher")
    with pytest.raises(RuntimeError), metrics.training():
        metrics.add(replace(RECORD, data={"window_p95_s": 0.5, "retries": 3.0, "quarantined_videos": 1.0}))
        during = dict(Noted.shown)
        raise RuntimeError
    assert during == {
        ("tadscale_training", "sprites", "teacher"): 1,
        ("tadscale_step", "sprites", "teacher"): 4,
        ("tadscale_total_steps", "sprites", "teacher"): 10,
        ("tadscale_windows_per_s", "sprites", "teacher"): 2.5,
        ("tadscale_data_wait_share", "sprites", "teacher"): 0.25,
        ("tadscale_window_p95_s", "sprites", "teacher"): 0.5,
        ("tadscale_retries", "sprites", "teacher"): 3.0,  # bad videos are shown by the process that counts them
    }
    assert Noted.shown[("tadscale_training", "sprites", "teacher")] == 0


def test_no_metric_without_a_place_in_the_list():
    assert set(STEP_BY_STEP) < set(METRICS)
    with pytest.raises(KeyError):
        gauge("tadscale_speed", run="x")
    with pytest.raises(AssertionError):
        gauge("tadscale_step", run="x")


def exported(run: str) -> list[str]:
    """Lines of Ray's exporter about a run, within its reporting interval of 10 s, and some."""
    import ray

    (node,) = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    deadline_s = time.monotonic() + 60
    while True:
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = [line for line in answer.read().decode().splitlines() if f'run="{run}"' in line]
        if lines or time.monotonic() > deadline_s:
            return lines
        time.sleep(1)


@pytest.mark.usefixtures("cluster")
def test_ray_exports_them_under_the_names_that_dashboards_ask_for():
    metrics = StageMetrics("exported", "teacher")
    metrics.add(RECORD)
    lines = exported("exported")
    values = {line.partition("{")[0]: float(line.split()[-1]) for line in lines}
    assert values[f"{PREFIX}tadscale_step"] == 4
    assert values[f"{PREFIX}tadscale_data_wait_share"] == 0.25
    assert all('stage="teacher"' in line for line in lines)


GATE = """
import sys
import ray
from tadscale.runtime.tracking.prometheus import gauge

ray.init(address=sys.argv[1], log_to_driver=False)
gauge("tadscale_gate_promoted", run="over", model="tiny").set(0)
"""


@pytest.mark.usefixtures("cluster")
def test_what_a_job_says_last_is_exported_though_it_has_ended():
    """The gate speaks in a job's last second: Ray hands it on at the end, and shows it for 15 s more."""
    import ray

    subprocess.run([sys.executable, "-c", GATE, ray.get_runtime_context().gcs_address], check=True, timeout=120)
    (line,) = [line for line in exported("over") if line.startswith(f"{PREFIX}tadscale_gate_promoted")]
    assert float(line.split()[-1]) == 0
