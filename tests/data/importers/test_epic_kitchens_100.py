"""EPIC-KITCHENS-100: verbs or nouns, times as timestamps."""

from pathlib import Path

import pytest

from tadscale.data.importers.corrections import CLIPPED
from tadscale.errors import UserError
from tadscale.segments import Segment
from tests.data.importers import by_key, counts, import_files

HEADER = (
    "narration_id,participant_id,video_id,start_timestamp,stop_timestamp,verb,verb_class,noun,noun_class,all_nouns\n"
)
FILES = {
    "EPIC_100_train.csv": HEADER
    + "P01_01_0,P01,P01_01,00:00:00.14,00:00:03.37,open,3,door,3,['door']\n"
    + "P01_01_1,P01,P01_01,00:01:04.37,01:00:00.00,take,0,plate,2,\"['plate', 'cup']\"\n",
    "EPIC_100_validation.csv": HEADER + "P01_11_0,P01,P01_11,00:00:00.00,00:00:01.89,take,0,plate,2,['plate']\n",
    "EPIC_100_test_timestamps.csv": "narration_id,video_id,start_timestamp,stop_timestamp\nP01_101_0,P01_101,1,2\n",
    "EPIC_100_verb_classes.csv": "id,key,instances,category\n0,take,\"['take', 'get']\",retrieve\n3,open,['open'],access\n",
    "EPIC_100_noun_classes.csv": "id,key,instances,category\n2,plate,['plate'],crockery\n3,door,['door'],furniture\n",
}


def test_verbs_by_default_with_the_names_of_their_classes(tmp_path: Path) -> None:
    imported = import_files(tmp_path, "epic_kitchens_100", FILES)
    assert by_key(imported) == {
        "P01_01": ("train", [Segment("open", 0.14, 3.37), Segment("take", 64.37, 3600.0)]),
        "P01_11": ("validation", [Segment("take", 0.0, 1.89)]),
    }
    assert (imported.classes, imported.published_classes) == (("take", "open"), 97)


def test_nouns_by_a_setting(tmp_path: Path) -> None:
    imported = import_files(tmp_path, "epic_kitchens_100", FILES, labels="noun")
    assert [segment.label for segment in by_key(imported)["P01_01"][1]] == ["door", "plate"]
    assert (imported.classes, imported.published_classes) == (("plate", "door"), 300)


def test_lengths_of_the_videos_clip_where_they_are_given(tmp_path: Path) -> None:
    lengths = {"EPIC_100_video_info.csv": "video_id,duration,fps,resolution\nP01_01,1652.15,59.94,1920x1080\n"}
    imported = import_files(tmp_path, "epic_kitchens_100", FILES | lengths)
    assert by_key(imported)["P01_01"][1][1].end_s == 1652.15
    assert counts(imported) == {CLIPPED: 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,P01,P01_01,00:00:99,00:01:00,x,0,x,2,x\n", r"train\.csv:2: '00:00:99' is no time"),
        (
            "a,P01,P01_01,00:00:01,00:01:00,x,98,x,2,x\n",
            r"train\.csv:2: verb_class is '98', which EPIC_100_verb_classes",
        ),
        ("a,P01,P01_01,00:00:01\n", r"train\.csv:2: 4 values where the header names 10"),
    ],
)
def test_damaged_rows_are_refused_with_their_line(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_files(tmp_path, "epic_kitchens_100", FILES | {"EPIC_100_train.csv": HEADER + row})


def test_the_class_list_is_needed(tmp_path: Path) -> None:
    files = {name: text for name, text in FILES.items() if name != "EPIC_100_noun_classes.csv"}
    with pytest.raises(UserError, match=r"EPIC_100_noun_classes\.csv, which names the classes"):
        import_files(tmp_path, "epic_kitchens_100", files, labels="noun")
