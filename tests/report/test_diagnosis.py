"""A detector's diagnosis, and the page that compares several."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tadscale.metrics import DetectionTable, GroundTruth, evaluate_detections
from tadscale.metrics.protocols import THUMOS14
from tadscale.report.diagnosis import Diagnosis, diagnose
from tadscale.report.diagnosis_html import diagnosis_html
from tadscale.report.inputs import read_files
from tests.metrics.problems import found, random_problem, truth
from tests.report.test_timeline_html import Page

EVIL = "<script>alert('x')</script>&\"'"


def diagnosed(name: str, detections: DetectionTable, ground_truth: GroundTruth) -> Diagnosis:
    duration_s = np.full(len(ground_truth.videos), 100.0)
    return diagnose(name, detections, ground_truth, tiou=(0.3, 0.5), duration_s=duration_s)


def test_says_what_the_score_says() -> None:
    detections, ground_truth = random_problem(3)
    one = diagnosed("mine", detections, ground_truth)
    scored = evaluate_detections(detections, ground_truth, (0.3, 0.5), ties="stable")
    assert one.result.per_class.tolist() == scored.per_class.tolist()
    assert [side.characteristic for side in one.sensitivities] == ["length", "coverage", "instances in the video"]
    document = json.loads(json.dumps(one.to_dict(), allow_nan=False))
    assert document["average_mAP"] == scored.average
    assert next(iter(document["false_positives"]["gain"])) == "double_detection"


def test_says_what_other_figure_another_order_of_ties_gives(monkeypatch) -> None:
    """Which order an unstable sort gives depends on the processor: here one that gives a half."""
    rows = [("a", "jump", 20.0 * place, 20.0 * place + 10, 0.5) for place in range(4)]
    ground_truth = truth(a=[("jump", 0, 10)])
    published = SimpleNamespace(average=0.5)
    monkeypatch.setattr("tadscale.report.diagnosis.evaluate_detections", lambda *problem: published)
    [said] = [remark for remark in diagnosed("mine", found(*rows), ground_truth).remarks if "share a score" in remark]
    assert said.startswith("4 detections share a score") and said.endswith("the average mAP is 50.00.")
    published.average = diagnosed("mine", found(*rows), ground_truth).result.average
    assert "share a score" not in " ".join(diagnosed("mine", found(*rows), ground_truth).remarks)
    published.average = 0.5
    apart = [(*row[:4], 0.9 - place / 10) for place, row in enumerate(rows)]
    assert "share a score" not in " ".join(diagnosed("mine", found(*apart), ground_truth).remarks)


def test_the_page_has_every_figure_and_loads_nothing() -> None:
    detections, ground_truth = random_problem(3)
    ones = [diagnosed("mine", detections, ground_truth), diagnosed("nothing", found(), ground_truth)]
    html = diagnosis_html(ones, "Report", "truth.json")
    page = Page(html)
    titles = ("mAP over tIoU", "Error profile", "What removing errors would gain", "Recall", "Calibration", "Classes")
    assert all(title in page.text for title in titles)
    assert f"{100 * ones[0].result.average:.2f}" in page.text
    assert f"{100 * ones[0].errors.gain[-1]:.2f}" in page.text
    assert "nan" not in html
    assert not [tag for tag, attributes in page.tags if tag in ("script", "link") or "src" in attributes]


def test_suspicions_stand_at_the_top_of_the_page() -> None:
    ground_truth = truth(v=[("jump", 0, 10)])
    page = Page(diagnosis_html([diagnosed("mine", found(("v", "jump", 50, 60, 0.5)), ground_truth)], "Report", ""))
    assert page.text.index("overlap any instance") < page.text.index("mAP over tIoU")


def test_names_from_outside_stay_text() -> None:
    ground_truth = truth(v=[(EVIL, 0, 10)])
    page = Page(diagnosis_html([diagnosed(EVIL, found(("v", EVIL, 0, 10, 0.5)), ground_truth)], EVIL, EVIL))
    assert not [tag for tag, _ in page.tags if tag == "script"]
    assert EVIL in page.text


def test_scores_that_are_no_probabilities_are_named() -> None:
    one = diagnosed("logits", found(("v", "jump", 0, 10, 7.0)), truth(v=[("jump", 0, 10)]))
    assert one.calibration is None
    assert "outside [0, 1], which claim nothing: logits" in Page(diagnosis_html([one], "Report", "")).text


def test_published_detections_of_thumos14(shared_data: Path) -> None:
    """S-CNN is held back by its boundaries: of its G best detections a third are right, and a third badly placed."""
    folder = shared_data / "thumos14"
    inputs = read_files([str(folder / "detections_scnn_res3d.json")], str(folder / "ground_truth_210.json"))
    [(name, table)] = inputs.detections.items()
    one = diagnose(
        name,
        table,
        inputs.ground_truth,
        tiou=THUMOS14.tiou,
        duration_s=inputs.duration_s,
        buckets=THUMOS14.buckets,
    )
    assert one.result.average == pytest.approx(0.243275, abs=1e-6)
    assert (100 * one.errors.share[0]).round().tolist() == [34, 7, 2, 36, 5, 17]
    assert int(one.errors.gain.argmax()) == 2
    outside, ties = one.remarks
    assert outside.startswith(
        "180 detections on videos outside the subset count as false positives: video_test_0000270"
    )
    # The remark ends with the average in the order of an unstable sort, which depends on the processor.
    assert ties.startswith("6598 detections share a score with another of their class")
