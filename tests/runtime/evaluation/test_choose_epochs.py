"""The epoch that counts is chosen on validation and never on test, and both it and the last are reported."""

import dataclasses
import json
from unittest.mock import MagicMock

import pytest

from tadscale.data.manifest import read_manifest
from tadscale.data.shards import write_shards
from tadscale.data.sprites import SpritesConfig, draw_videos
from tadscale.network import spec_digest
from tadscale.runtime.evaluation import choose_epochs as choosing
from tadscale.runtime.evaluation import score_models as scoring
from tadscale.runtime.evaluation.detect_videos import VideosDetected
from tadscale.runtime.stage.choice import choice_line, last_weights
from tadscale.runtime.stage.result import StageResult
from tadscale.segments import Detection
from tests.runtime.conftest import changed, result_of, save_untrained

EPOCHS = (1, 2, 3)
BEST = {"validation": 2, "test": 1}
"""Which epoch finds everything in a subset; the others find nothing there."""


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("videos")
    config = SpritesConfig(train=2, validation=2, test=2, duration_s=6.0, size=32)
    write_shards(draw_videos(config), str(folder))
    return str(folder)


@pytest.fixture
def job(make_stage, videos, tmp_path):
    stage = make_stage(tmp_path / "run", data={"url": videos})
    return changed(stage, evaluate=stage.job.evaluate.model_copy(update={"select": "validation"})).job


@pytest.fixture
def stages(make_stage, job, tmp_path) -> dict[str, StageResult]:
    """A teacher and a baseline that kept the weights of every epoch."""
    results = {}
    for mode in ("teacher", "baseline"):
        stage = make_stage(tmp_path / "run", mode, data={"url": job.data.url})
        bare = result_of(stage.url, epochs=EPOCHS[-1])
        urls = [*map(bare.epoch_url, EPOCHS[:-1]), bare.weights_url]
        kept = {epoch: spec_digest(save_untrained(stage, url, epoch)) for epoch, url in zip(EPOCHS, urls, strict=True)}
        last = {"network_sha256": kept.pop(EPOCHS[-1])}
        results[mode] = bare.model_copy(update={"kept_epochs": kept, **last})
    return results


@pytest.fixture
def looked_at(monkeypatch, videos) -> list[str]:
    """In place of detecting: an epoch finds what there is in the subset for which it is the best. The subsets asked for."""
    subsets: list[str] = []
    manifest = read_manifest(videos)

    def detect(candidates, *, subset, **_) -> VideosDetected:
        subsets.append(subset)
        everything = [
            Detection(video=row.key, label=label, start_s=start, end_s=end, score=0.9)
            for row in manifest.subset(subset).rows
            for label, start, end in zip(row.labels, row.start_s, row.end_s, strict=True)
        ]
        best = f"epoch-{BEST[subset]:04d}"
        found = {one.name: everything if one.weights_urls[0].endswith(best) else [] for one in candidates}
        return VideosDetected(found, ())

    monkeypatch.setattr(choosing, "detect_videos", detect)
    monkeypatch.setattr(scoring, "detect_videos", detect)
    return subsets


def test_the_best_on_validation_is_chosen_and_no_test_video_is_looked_at(job, stages, looked_at):
    run = MagicMock()
    choices = choosing.choose_epochs(job, read_manifest(job.data.url), stages, run)
    assert set(looked_at) == {"validation"}
    for mode, choice in choices.items():
        assert choice.epoch == BEST["validation"]
        assert choice.url == stages[mode].epoch_url(2)
        assert choice.validation == {1: 0.0, 2: 1.0, 3: 0.0}
    logged = {(name, call.kwargs["step"]) for call in run.log_metrics.call_args_list for name in call.args[0]}
    assert ("baseline/validation_average_mAP", 2) in logged
    assert not [name for name, _ in logged if name.endswith("/average_mAP")]  # which are scores on test


def test_what_is_known_of_test_videos_cannot_change_the_choice(job, stages, looked_at):
    """Whatever they are said to show, and even where there are none."""
    manifest = read_manifest(job.data.url)
    other = tuple(
        row._replace(labels=row.labels[:1], start_s=row.start_s[:1], end_s=row.end_s[:1])
        for row in manifest.rows
        if row.subset == "test"
    )
    rest = tuple(row for row in manifest.rows if row.subset != "test")
    choices = [
        choosing.choose_epochs(job, dataclasses.replace(manifest, rows=rows), stages, MagicMock())
        for rows in (manifest.rows, rest + other, rest)
    ]
    assert choices[0] == choices[1] == choices[2]


def test_of_equal_epochs_the_latest_is_chosen():
    assert choosing.best_epoch({1: 0.2, 2: 0.5, 3: 0.5, 4: 0.1}) == 3


def test_chosen_and_last_are_both_scored_on_test_and_reported(job, stages, looked_at, tmp_path):
    run, manifest = MagicMock(), read_manifest(job.data.url)
    choices = choosing.choose_epochs(job, manifest, stages, run)
    names = {one.name: one.weights_urls for one in scoring.candidates(choices)}
    assert set(names) == {f"{name}{last}" for name in ("teacher", "baseline", "two_stream") for last in ("", "_last")}
    assert names["two_stream"] == (choices["teacher"].url, choices["baseline"].url)
    assert names["two_stream_last"] == (stages["teacher"].weights_url, stages["baseline"].weights_url)
    scores = {name: MagicMock(average=0.25 if name.endswith("_last") else 0.5) for name in names}
    choosing.record_choices(job, choices, scores, run)
    [path] = tmp_path.rglob("selection.json")
    document = json.loads(path.read_text())
    assert set(document) == {"teacher", "baseline"}
    assert document["baseline"]["test_average_mAP"] == {"chosen": 0.5, "last": 0.25}
    assert (document["baseline"]["chosen_epoch"], document["baseline"]["last_epoch"]) == (2, 3)
    assert document["baseline"]["chosen_on"] == "validation"
    assert "epoch 2 of 3, chosen on validation at 100.0 average mAP (the last: 0.0)" in choice_line(
        "baseline", choices["baseline"]
    )


def test_without_a_choice_the_last_counts_and_nothing_is_detected(job, stages, looked_at):
    last = job.model_copy(update={"evaluate": job.evaluate.model_copy(update={"select": "last"})})
    choices = choosing.choose_epochs(last, read_manifest(job.data.url), stages, MagicMock())
    assert choices == {mode: last_weights(result) for mode, result in stages.items()}
    assert not looked_at
    assert {one.name for one in scoring.candidates(choices)} == {"teacher", "baseline", "two_stream"}
    assert choice_line("baseline", choices["baseline"]) == ""


def test_a_named_teacher_has_no_epochs_to_choose_from(job, stages, looked_at):
    del stages["teacher"]
    choices = choosing.choose_epochs(job, read_manifest(job.data.url), stages, MagicMock())
    names = {one.name: one.weights_urls for one in scoring.candidates(choices, "elsewhere")}
    assert set(names) == {"teacher", "baseline", "two_stream", "baseline_last", "two_stream_last"}
    assert names["two_stream_last"] == ("elsewhere", stages["baseline"].weights_url)


def test_a_stage_that_kept_nothing_is_refused_before_anything_is_detected(job, stages, looked_at):
    stages["baseline"] = stages["baseline"].model_copy(update={"kept_epochs": {}})
    with pytest.raises(ValueError, match="kept the weights of no epoch but its last"):
        choosing.choose_epochs(job, read_manifest(job.data.url), stages, MagicMock())
    assert not looked_at


def test_weights_that_were_replaced_since_are_refused(job, make_stage, stages, looked_at, tmp_path):
    save_untrained(make_stage(tmp_path / "run", "baseline"), stages["baseline"].epoch_url(1), seed=9)
    with pytest.raises(ValueError, match="damaged or replaced"):
        choosing.choose_epochs(job, read_manifest(job.data.url), stages, MagicMock())
