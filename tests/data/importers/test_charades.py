"""Charades: two tables and a list of classes."""

from pathlib import Path

import pytest

from tadscale.data.importers.corrections import CLIPPED, EMPTY
from tadscale.errors import UserError
from tadscale.segments import Segment
from tests.data.importers import by_key, counts, import_files

HEADER = "id,subject,script,actions,length\n"
FILES = {
    "Charades_v1_classes.txt": "c092 Watching/looking at something\nc147 Taking a broom\n",
    "Charades_v1_train.csv": HEADER
    + '46GP8,HR43,"A person, cooking.\nThen eating.",c092 11.90 21.20;c147 0.00 12.60,24.83\nN11GT,0KZ7,x,,18.33\n',
    "Charades_v1_test.csv": HEADER + "YSKX3,3ZXS,x,c147 4.10 33.00;c092 5.00 5.00,30.00\n",
    "Charades_v1_objectclasses.txt": "o000 None\n",
}


def test_actions_of_a_row_become_segments_with_names(tmp_path: Path) -> None:
    imported = import_files(tmp_path, "charades", FILES)
    looking, broom = imported.classes
    assert (looking, broom) == ("Watching/looking at something", "Taking a broom")
    assert by_key(imported) == {
        "YSKX3": ("test", [Segment(broom, 4.1, 30)]),
        "46GP8": ("train", [Segment(looking, 11.9, 21.2), Segment(broom, 0, 12.6)]),
        "N11GT": ("train", []),
    }
    assert {video.video: video.duration_s for video in imported.videos}["46GP8"] == 24.83
    assert counts(imported) == {CLIPPED: 1, EMPTY: 1}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("Charades_v1_train.csv", HEADER + "a,b,c,c092 1.0,5\n", r"train\.csv:2: the action 'c092 1\.0'"),
        ("Charades_v1_train.csv", HEADER + "a,b,c,c999 1 2,5\n", r"train\.csv:2: the action 'c999 1 2'"),
        ("Charades_v1_train.csv", HEADER + "a,b,c,c092 1 x,5\n", r"train\.csv:2: 'x' is no time"),
        ("Charades_v1_train.csv", HEADER + "a,b,c,c092 1 2,\n", r"train\.csv:2: '' is no time"),
        ("Charades_v1_train.csv", "id,actions\na,c092 1 2\n", r"train\.csv:1: no column length"),
        ("Charades_v1_test.csv", HEADER + "46GP8,b,c,,5\n", r"train\.csv:3: 46GP8 is in the subset 'train' here"),
    ],
)
def test_damaged_rows_are_refused_with_their_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_files(tmp_path, "charades", FILES | {name: text})


def test_the_class_list_is_needed(tmp_path: Path) -> None:
    files = {name: text for name, text in FILES.items() if "classes" not in name}
    with pytest.raises(UserError, match=r"Charades_v1_classes\.txt, which names the classes"):
        import_files(tmp_path, "charades", files)
