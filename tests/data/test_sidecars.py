"""Annotations in the forms that other pipelines write."""

import json

import pytest

from tadscale.data.quarantine import DataError
from tadscale.data.sidecars import read_sidecars

CLASSES = ("jump", "run", "7")


def found(classes: tuple[str, ...] | None = CLASSES, **notes: object) -> list[tuple[str, float, float]]:
    """Segments of a video of 9 s."""
    raw = {name: note if isinstance(note, bytes) else json.dumps(note).encode() for name, note in notes.items()}
    entry = read_sidecars("k", raw, classes, 9.0)
    return [(one["label"], *map(float, one["segment"])) for one in entry["annotations"]]


@pytest.mark.parametrize(
    "document",
    [
        {"annotations": [{"label": "run", "segment": [1, 2]}, {"label": "jump", "segment": [3, 4.5]}]},
        {"segments": [{"label": "run", "segment": [1, 2]}, {"label": 0, "segment": [3, 4.5]}]},
        {"segments": [{"label": "run", "start": 1, "end": 2}, {"label": "jump", "start": 3, "end": 4.5}]},
        {"segments": [{"label": "run", "start_s": 1, "end_s": 2}, {"label": 0, "start_s": 3, "end_s": 4.5}]},
        {"segments": [[1, 2], [3, 4.5]], "labels": ["run", "jump"]},
        {"segments": [[1, 2], [3, 4.5]], "labels": [1, 0]},
    ],
)
def test_lists_of_segments(document: dict[str, object]) -> None:
    assert found(json=document) == [("run", 1, 2), ("jump", 3, 4.5)]


def test_one_segment_and_none() -> None:
    assert found(json={"label": "run", "segment": [1, 2]}) == [("run", 1, 2)]
    assert found(json={"label": 1, "start": 1, "end": 2}) == [("run", 1, 2)]
    assert found(json={"segments": [[1, 2]], "label": "run"}) == [("run", 1, 2)]
    assert found(json={"segments": []}) == []


def test_a_class_without_a_time_is_one_segment_of_the_whole_video() -> None:
    for notes in (
        {"json": {"label": "run"}},
        {"json": {"label": 1}},
        {"cls": b"run\n"},
        {"cls": b"1"},
        {"txt": b"run\n"},
    ):
        assert found(**notes) == [("run", 0, 9)]
    assert found(cls=b"7") == [("7", 0, 9)]  # a name that looks like a number
    assert found(None, cls=b"anything") == [("anything", 0, 9)]
    assert found(cls="\ufeffrun".encode()) == found(txt="\ufeffrun".encode()) == [("run", 0, 9)]  # a byte-order mark


def test_lines_of_times_and_labels() -> None:
    assert found(None, txt=b"0.5\t1.5\tlong jump\n\n 2 3 run \n") == [("long jump", 0.5, 1.5), ("run", 2, 3)]


def test_json_goes_before_cls_and_cls_before_txt_where_it_is_understood() -> None:
    assert found(json={"label": "jump"}, cls=b"run", txt=b"0 1 run") == [("jump", 0, 9)]
    assert found(json={"width": 320, "height": 240}, cls=b"run", txt=b"a caption") == [("run", 0, 9)]


def test_a_subset_comes_along() -> None:
    assert read_sidecars("k", {"json": b'{"label": "run", "split": "val"}'}, None, 9.0)["subset"] == "val"


@pytest.mark.parametrize(
    ("notes", "message"),
    [
        ({}, "no annotation: neither"),
        ({"json": {"width": 320}}, r"unknown form \(the keys \['width'\]\); expected"),
        ({"json": [1]}, r"unknown form \(a list\)"),
        ({"json": b"{"}, "is not JSON"),
        ({"json": {"label": None}}, "the label None, expected a name or a number"),
        ({"json": {"segments": [[1, 2]]}}, "the label None"),
        ({"cls": b"3"}, "the label 3, and the class list holds 3 names"),
        ({"cls": b" "}, "the label ''"),
        ({"cls": b"\xff"}, "not text"),
        ({"txt": b"a man runs"}, "a caption is no annotation"),
        ({"txt": b"0 1 run\nand more"}, "neither lines of"),
        ({"txt": b""}, "neither lines of"),
    ],
)
def test_what_is_not_understood_is_named(notes: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        found(**notes)


def test_numbers_need_names() -> None:
    with pytest.raises(DataError, match=r"a number: name the classes in their order \(--classes\)"):
        found(None, cls=b"3")
