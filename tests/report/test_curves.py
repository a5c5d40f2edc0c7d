"""Training curves: what is read of a log, and how it is smoothed and drawn."""

import json
from pathlib import Path

import numpy as np
import pytest

from tadscale.report.curves import loss_series, panel_series, plot_curves, read_log, smooth, split_series


def record(step: int, loss: float = 1.0) -> dict[str, object]:
    return {"step": step, "losses": {"joint": loss / 2, "loss": loss}, "lr": 1e-3, "grad_norm": 2.0, "eta_s": 9.0}


def test_log_of_a_killed_and_resumed_run(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = [json.dumps(record(step)) for step in range(4)]
    torn = lines[3][:20]
    resumed = [json.dumps(record(step, loss=0.5)) for step in (2, 3, 4)]
    path.write_text("\n".join([*lines[:3], torn + resumed[0], *resumed[1:], "", "[]"]) + "\n")
    records = read_log(path)
    assert [row["step"] for row in records] == [0, 1, 2, 3, 4]
    assert [row["losses"]["loss"] for row in records] == [1.0, 1.0, 1.0, 0.5, 0.5]


def test_of_a_repeated_step_the_last_counts(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(json.dumps(record(1, loss)) for loss in (1.0, 0.25)))
    assert [row["losses"]["loss"] for row in read_log(path)] == [0.25]


def test_a_file_without_records_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("hello\n{}\n")
    with pytest.raises(ValueError, match="no record with a"):
        read_log(path)


def test_losses_total_first_and_gaps_left_out() -> None:
    rows = [record(0), {"step": 1}, {"step": 2, "losses": {"loss": float("nan"), "joint": 0.1}}, record(3, 0.5)]
    series = loss_series(rows)
    assert list(series) == ["loss", "joint"]
    assert series["loss"][0].tolist() == [0, 3]
    assert series["joint"][1].tolist() == [0.5, 0.1, 0.25]
    assert list(loss_series([{"step": 0, "loss": 2}])) == ["loss"]


def test_smoothing_does_not_trail() -> None:
    line = np.linspace(5, 1, 1000)
    np.testing.assert_allclose(smooth(line)[50:-50], line[50:-50], rtol=1e-9)
    noise = np.random.default_rng(0).normal(size=1000)
    assert smooth(noise).std() < 0.3 * noise.std()
    for count in (1, 2, 3, 49, 50, 51, 120):
        np.testing.assert_allclose(smooth(np.full(count, 7.0)), np.full(count, 7.0))


def test_picture_has_a_panel_for_each_thing_recorded(tmp_path: Path) -> None:
    from matplotlib.image import imread

    rows = [record(step, 10 / (1 + step)) for step in range(40)]
    plot_curves(rows, tmp_path / "three.png")
    plot_curves([{"step": 0, "loss": 1.0}], tmp_path / "one.png")
    three, one = imread(tmp_path / "three.png").shape, imread(tmp_path / "one.png").shape
    assert three[0] == one[0]
    assert three[1] == pytest.approx(3 * one[1], abs=3)


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_curves([{"step": 0, "eta_s": 1.0}], tmp_path / "none.png")


def test_what_is_measured_at_the_split_has_panels_of_its_own(tmp_path):
    rows = [{"step": step, "losses": {"loss": 2.0}} for step in range(20)]
    for step in (0, 10):
        rows[step]["losses"] |= {"split_truth": 0.1, "split_distill": 4.0 + step, "split_cosine": 0.2}
    panels = split_series(rows)
    assert list(panels) == ["gradients into the backbone", "their cosine"]
    steps, values = panels["gradients into the backbone"]["distillation"]
    assert (steps.tolist(), values.tolist()) == ([0, 10], [4.0, 14.0])
    assert list(loss_series(rows)) == ["loss"] and split_series(rows[1:9]) == {}
    plot_curves(rows, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_memory_that_is_shared_is_a_line_of_its_own_and_what_is_not_there_none(tmp_path: Path) -> None:
    """A curve of both climbed by a gigabyte in 600 steps, all of it the object store's."""
    rows = [
        {
            "step": step,
            "memory_mib": 700.0,
            "shared_memory_mib": 2.0 * step,
            "gpu_memory_mib": 0.0,
            "data_wait_share": 0.0,
        }
        for step in range(20)
    ]
    panels = panel_series(rows)
    assert list(panels) == ["share of time waiting for data", "memory of rank 0, MiB"]
    memory = panels["memory of rank 0, MiB"]
    assert list(memory) == ["its own", "object store, shared"]
    assert set(memory["its own"][1]) == {700.0}
    plot_curves(rows, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 1000
