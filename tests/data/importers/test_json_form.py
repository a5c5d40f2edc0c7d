"""Data sets that are published as ActivityNet JSON: ActivityNet-1.3, HACS, FineAction."""

import json
from pathlib import Path
from typing import Any

import pytest

from tadscale.data.annotations import ground_truth_document
from tadscale.data.importers.corrections import CLIPPED, OUTSIDE, WITHHELD
from tadscale.errors import UserError
from tadscale.segments import Segment
from tests.data.importers import by_key, counts, import_files


def entry(subset: str, *spans: tuple[float, float], duration: Any = 10.0) -> dict[str, Any]:
    annotations = [{"label": "Rock climbing", "segment": list(span)} for span in spans]
    return {"subset": subset, "duration": duration, "url": "https://...", "annotations": annotations}


def document(**database: Any) -> str:
    return json.dumps({"version": "VERSION 1.3", "taxonomy": [], "database": database})


@pytest.mark.parametrize("name", ["activitynet13", "hacs", "fineaction"])
def test_subsets_lengths_and_corrections(tmp_path: Path, name: str) -> None:
    database = {
        "--0edUL8zmA": entry("training", (5.4, 11.6), (2, 3), duration="9.166667"),
        "sJn5Yv1XYcA": entry("validation", (0, 1), (12, 13)),
        "nothing": entry("validation"),
        "secret": entry("testing"),
    }
    bare = {key: value for key, value in entry("testing").items() if key != "annotations"}
    imported = import_files(tmp_path, name, {f"{name}.json": document(**database, bare=bare), "clips.csv": "a,b\n"})
    assert by_key(imported) == {
        "--0edUL8zmA": ("train", [Segment("Rock climbing", 5.4, 9.166667), Segment("Rock climbing", 2, 3)]),
        "sJn5Yv1XYcA": ("validation", [Segment("Rock climbing", 0, 1)]),
        "nothing": ("validation", []),
    }
    assert counts(imported) == {CLIPPED: 1, OUTSIDE: 1, WITHHELD: 2}
    assert imported.classes == ("Rock climbing",)


def test_a_stated_frame_rate_is_carried_on(tmp_path: Path) -> None:
    """Features that were computed at each video's own rate are timed by it."""
    database = {key: entry("training", (1, 2)) | {"fps": fps} for key, fps in {"a": 29.97, "b": "25", "c": "?"}.items()}
    imported = import_files(tmp_path, "activitynet13", {"a.json": document(**database)})
    written = ground_truth_document(imported.videos)["database"]
    assert [written[key].get("fps") for key in "abc"] == [29.97, 25.0, None]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.txt": ""}, r"none of the 1 files given \(a\.txt\) is one of activity_net\.v1-3\.min\.json"),
        ({"a.json": document(v=entry("training", (1, 2))) + "}"}, r"a\.json is not JSON \(line 1"),
        ({"a.json": document(v={"subset": "training"})}, r"a\.json: database\['v'\] has no list \"annotations\""),
        ({"a.json": document(v=entry("training", (1, "x")))}, r"database\['v'\]\.annotations\[0\]\.segment\[1\]"),
        ({n: document(v=entry("training", (1, 2))) for n in ("a.json", "b.json")}, r"b\.json: .*another file has"),
    ],
)
def test_damaged_files_are_refused_with_their_place(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_files(tmp_path, "activitynet13", files)
