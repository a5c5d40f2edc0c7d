"""JSON of others within bounds: keys that stand twice, depth, size, numbers, half characters."""

import json
import os
from collections.abc import Callable

import pytest

from tadscale.data import json_text
from tadscale.data.annotations import parse_detections, parse_ground_truth, read_document
from tadscale.data.json_text import parse_json
from tadscale.errors import UserError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"database": {\n"a": 1,\n"b": {"c": "a"},\n"a": 2}}',
            "the key 'a' stands twice in one object, in lines 2, 4",
        ),
        ('{"x": [{"k": 1}, {"k": 1,\n"k": 2, "k": 3}]}', "the key 'k' stands twice in one object, in lines 1, 2, 2"),
        ('{"\\u00e9\\"": 1, "é\\u0022": 2}', "stands twice in one object, in lines 1, 1"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("9" * 5000, "digits"),
        ("{", "line 1, column 2"),
    ],
)
def test_what_means_nothing_or_two_things_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_json(text.encode(), "gt.json")
    assert message in str(raised.value)
    assert len(str(raised.value)) < 400


def test_one_key_in_several_objects_is_one_key_in_each() -> None:
    assert parse_json('[{"a": 1}, {"a": {"a": ["a", "a"]}}]'.encode("utf-16"), "x") == [
        {"a": 1},
        {"a": {"a": ["a", "a"]}},
    ]


def test_size_is_bounded_before_anything_is_read(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(json_text, "MAX_BYTES", 100)
    (tmp_path / "large.json").write_text("[" + " " * 100 + "]")
    with pytest.raises(UserError, match="holds 102 bytes"):
        read_document(tmp_path / "large.json")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(UserError, match="no file but of type other"):
        read_document(tmp_path / "pipe.json")
    monkeypatch.setattr(json_text, "MAX_VALUES", 5)
    with pytest.raises(UserError, match="more than 5 values"):
        parse_json(b"[[],[],[]]", "x")


@pytest.mark.parametrize(
    "annotation",
    [
        {"label": "jump", "segment": [0, 10**400]},
        {"label": "jump", "segment": [0, "1e999"]},
        {"label": "\ud800", "segment": [0, 1]},
        {"label": ["x"] * 10_000, "segment": [0, 1]},
        {"label": "jump", "segment": ["x" * 100_000, 1]},
        {"label": "jump", "segment": list(range(10_000))},
    ],
)
def test_absurd_values_are_refused_with_their_place_and_in_few_words(annotation: dict[str, object]) -> None:
    document = json.loads(json.dumps({"database": {"v": {"annotations": [annotation]}}}))
    with pytest.raises(UserError, match=r"database\['v'\].annotations\[0\]") as raised:
        parse_ground_truth(document, "gt.json")
    assert len(str(raised.value)) < 400


@pytest.mark.parametrize(("section", "parse"), [("database", parse_ground_truth), ("results", parse_detections)])
def test_a_video_whose_name_is_no_text_is_refused(section: str, parse: Callable[[object, str], object]) -> None:
    document = {section: {"\ud800": {"annotations": []} if section == "database" else []}}
    with pytest.raises(UserError, match=r"x\.json: .*\['\\ud800'\] has half a character of Unicode in its name"):
        parse(document, "x.json")


def test_two_spellings_of_one_video_are_refused_and_one_is_read() -> None:
    assert parse_detections({"results": {"a.mp4": [], "e\u0301": []}}, "d.json").videos == ("a", "\u00e9")
    with pytest.raises(UserError, match=r"results\['a.mp4'\] and results\['a'\] are one video"):
        parse_detections({"results": {"a.mp4": [], "a": []}}, "d.json")
