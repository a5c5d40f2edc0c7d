"""THUMOS14: text files and JSON, ambiguous segments, and which ground truth it is."""

import json
from pathlib import Path

import pytest

from tadscale.data.importers.thumos14 import AMBIGUOUS_ALONE, KEPT_OUT
from tadscale.errors import UserError
from tadscale.segments import Segment
from tests.data.importers import by_key, counts, import_files

VAL, TEST = "video_validation_0000051", "video_test_0000278"
FILES = {
    "val/Diving_val.txt": f"{VAL}  1.0 2.5\n{VAL}  4.0 5.0\n",
    "val/CliffDiving_val.txt": f"{VAL}  4.0 5.0\n",
    "test/Diving_test.txt": f"{TEST}  0.4 1.5\r\n\n",
    "test/Ambiguous_test.txt": f"{TEST}  0.0 0.4\nvideo_test_0001292  7.0 8.0\n",
    "test/readme.txt": "THUMOS CHALLENGE 2014\n",
}


def official(before: int, of_270: int = 29, of_1496: int = 18) -> dict[str, str]:
    """A test set of as many instances in each of the videos that the variants differ by as the official one has."""
    lines = [f"video_test_{n // 16 + 2000:07d} {n}.0 {n + 1}.0" for n in range(before)]
    lines += [f"video_test_0000270 {n}.0 {n + 1}.0" for n in range(of_270)]
    lines += [f"video_test_0001496 {n}.0 {n + 1}.0" for n in range(of_1496)]
    lines += [f"video_test_0000814 {start} {start + 5}" for start in (10.0, 233.6, 305.5, 331.7)]
    lines += [f"video_test_0001081 {start} {start + 2}" for start in (20.0, 127.5)]
    return {"Diving_test.txt": "\n".join(lines)}


def test_text_files_become_segments_of_both_subsets(tmp_path: Path) -> None:
    imported = import_files(tmp_path, "thumos14", FILES)
    assert by_key(imported) == {
        TEST: ("test", [Segment("Diving", 0.4, 1.5)]),
        VAL: ("validation", [Segment("CliffDiving", 4, 5), Segment("Diving", 1, 2.5), Segment("Diving", 4, 5)]),
    }
    assert imported.classes == ("CliffDiving", "Diving")
    assert counts(imported) == {KEPT_OUT: 2, AMBIGUOUS_ALONE: 1}
    assert "CliffDiving is Diving, too: 1 of its 1 segments have both labels" in imported.notes


def test_ambiguous_segments_may_be_kept(tmp_path: Path) -> None:
    imported = import_files(tmp_path, "thumos14", FILES, keep_ambiguous=True)
    assert by_key(imported)[TEST][1] == [Segment("Ambiguous", 0, 0.4), Segment("Diving", 0.4, 1.5)]
    assert (imported.classes, counts(imported)) == (("Ambiguous", "CliffDiving", "Diving"), {})


def test_json_in_use_gives_the_same_whatever_it_calls_the_subsets(tmp_path: Path) -> None:
    def entry(subset: str, *rows: tuple[str, str, str]) -> dict:
        return {"subset": subset, "annotations": [{"label": row[0], "segment": row[1:]} for row in rows]}

    database = {
        TEST: entry("validation", ("Diving", "0.4", "1.5"), ("Ambiguous", "0.0", "0.4")),
        VAL: entry("train", ("CliffDiving", "4", "5"), ("Diving", "1.0", "2.5"), ("Diving", "4", "5")),
    }
    imported = import_files(tmp_path / "json", "thumos14", {"thumos.json": json.dumps({"database": database})})
    assert by_key(imported) == by_key(import_files(tmp_path / "text", "thumos14", FILES))
    assert counts(imported) == {KEPT_OUT: 1}


@pytest.mark.parametrize("variant", [3358, 3325, 3311])
def test_the_ground_truths_in_use_are_made_of_the_official_files_and_named(tmp_path: Path, variant: int) -> None:
    files = official(3358 - 29 - 18 - 6)
    assert any("3358 instances" in note for note in import_files(tmp_path, "thumos14", files).notes)
    imported = import_files(tmp_path, "thumos14", files, variant=variant)
    assert sum(len(video.segments) for video in imported.videos) == variant
    [note] = imported.notes
    assert f"test set as given: {variant} instances in {len(imported.videos)} videos: " in note
    assert ("3358 without" in note) == (variant != 3358)
    removed = {"video_test_0000270", "video_test_0001496"} - by_key(imported).keys()
    assert (
        removed
        == {3358: set(), 3325: {"video_test_0000270"}, 3311: {"video_test_0000270", "video_test_0001496"}}[variant]
    )
    assert len(by_key(imported)["video_test_0000814"][1]) == (1 if variant == 3325 else 4)
    assert sum(counts(imported).values()) == 3358 - variant


def test_a_variant_is_not_made_of_what_lacks_its_instances(tmp_path: Path) -> None:
    files = official(3311 - 6, of_270=0, of_1496=0)
    assert "3311 instances" in import_files(tmp_path, "thumos14", files).notes[0]
    with pytest.raises(UserError, match="variant=3358: 3311 test instances are left"):
        import_files(tmp_path, "thumos14", files, variant=3358)


def test_another_count_is_said_to_be_none_of_them(tmp_path: Path) -> None:
    note = import_files(tmp_path, "thumos14", FILES).notes[0]
    assert (
        note
        == "test set as given: 1 instances in 1 videos: none of the ground truths in use, which have 3358, 3325, 3311"
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"Diving_val.txt": f"{VAL} 1.0 2.0\n{VAL} 3.0\n"}, r"Diving_val\.txt:2: .*expected VIDEO START END"),
        ({"Diving_val.txt": f"{VAL} 1.0 x\n"}, r"Diving_val\.txt:1: 'x' is no time"),
        ({"Diving_val.txt": "v_a_g01_c01 1 2\n"}, r"Diving_val\.txt:1: 'v_a_g01_c01' is no video of THUMOS14"),
        ({"readme.txt": "x"}, r"none of the 1 files given \(readme\.txt\) is one of CLASS_val\.txt"),
        ({"Diving_val.txt": f"{VAL} 1 2\n", "a.json": "{}"}, "give the annotations once"),
        ({"a.json": '{"database": []}'}, 'no object "database"'),
    ],
)
def test_damaged_files_are_refused_with_the_line(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_files(tmp_path, "thumos14", files)
