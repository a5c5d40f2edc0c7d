"""Ego4D Moments Queries: clips as videos, primary labels, several annotators."""

import json
from pathlib import Path
from typing import Any

import pytest

from tadscale.data.importers.corrections import CLIPPED, TWICE, WITHHELD
from tadscale.data.importers.ego4d_mq import NONE_PRIMARY, NOT_PRIMARY
from tadscale.errors import UserError
from tadscale.segments import Segment
from tests.data.importers import by_key, counts, import_files


def label(name: str, start: float, end: float, primary: bool = True) -> dict[str, Any]:
    return {"label": name, "video_start_time": start, "video_end_time": end, "primary": primary}


def clip(uid: str, start: float, end: float, *annotators: list[dict[str, Any]]) -> dict[str, Any]:
    annotations = [{"annotator_uid": str(n), "labels": labels} for n, labels in enumerate(annotators)]
    return {"clip_uid": uid, "video_start_sec": start, "video_end_sec": end, "annotations": annotations}


def moments(split: str, *clips: dict[str, Any]) -> str:
    return json.dumps({"version": "1", "videos": [{"video_uid": "u", "split": split, "clips": list(clips)}]})


WASH, WASH_AGAIN = label("wash_dishes", 100.2, 130.5), label("wash_dishes", 100.2, 130.5)
UNANNOTATED = {"clip_uid": "secret", "video_start_sec": 0, "video_end_sec": 480.0}
FILES = {
    "moments_train.json": moments(
        "train",
        clip("c1", 100.0, 580.0, [WASH, label("walk", 110, 120, False)], [WASH_AGAIN, label("read", 570, 590)]),
    ),
    "moments_val.json": moments("val", clip("c2", 0.0, 480.0, [label("read", 1, 2)])),
    "moments_test_unannotated.json": moments("test", UNANNOTATED),
    "nlq_train.json": "{}",
}


def test_times_count_from_the_start_of_the_clip(tmp_path: Path) -> None:
    imported = import_files(tmp_path, "ego4d_mq", FILES)
    assert by_key(imported) == {
        "c1": ("train", [Segment("wash_dishes", 0.2, 30.5), Segment("read", 470, 480)]),
        "c2": ("validation", [Segment("read", 1, 2)]),
    }
    assert counts(imported) == {NOT_PRIMARY: 1, TWICE: 1, CLIPPED: 1, WITHHELD: 1}


def test_a_clip_without_a_primary_label_is_left_out_and_one_without_any_is_background(tmp_path: Path) -> None:
    """The authors' own conversion removes it: something happens there."""
    clips = [
        clip("c1", 0, 9, [label("walk", 1, 2, False)]),
        clip("c2", 0, 9, []),
        clip("c3", 0, 9, [label("read", 1, 3)]),
    ]
    imported = import_files(tmp_path, "ego4d_mq", {"moments_train.json": moments("train", *clips)})
    assert sorted(by_key(imported)) == ["c2", "c3"]
    assert counts(imported)[NONE_PRIMARY] == 1
    everything = import_files(
        tmp_path, "ego4d_mq", {"moments_train.json": moments("train", *clips)}, primary_only=False
    )
    assert sorted(by_key(everything)) == ["c1", "c2", "c3"]


def test_all_labels_by_a_setting(tmp_path: Path) -> None:
    imported = import_files(tmp_path, "ego4d_mq", FILES, primary_only=False)
    assert [segment.label for segment in by_key(imported)["c1"][1]] == ["wash_dishes", "walk", "read"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (moments("train", {"video_start_sec": 0}), r"moments_train\.json\.videos\[0\]\.clips\[0\] has no 'clip_uid'"),
        (
            moments("train", clip("c", 0, 9, [{"label": "x", "primary": True, "video_start_time": None}])),
            r"clips\[0\]\.annotations\[0\]\.labels\[0\]\.video_start_time: 'None' is no time",
        ),
        (json.dumps({"videos": [3]}), r"videos\[0\] is '3', expected an object"),
        ("[]", 'has no list "videos"'),
    ],
)
def test_damaged_entries_are_refused_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_files(tmp_path, "ego4d_mq", {"moments_train.json": text})
