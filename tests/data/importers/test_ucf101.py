"""UCF101: whole clips as segments, by lists or by groups."""

from pathlib import Path

import pytest

from tadscale.data.encode import encode_h264
from tadscale.data.importers import importer_of
from tadscale.data.importers.convert import Imported, import_annotations
from tadscale.data.importers.corrections import UNMEASURED
from tadscale.errors import UserError
from tadscale.segments import Segment
from tests.data.clips import numbered
from tests.data.importers import by_key, write_files

CLIPS = [f"v_{label}_g{group:02d}_c01" for label in ("Archery", "Mixing") for group in (1, 7, 8, 15, 22)]
LISTS = {
    "classInd.txt": "1 ApplyEyeMakeup\n3 Archery\n",
    "trainlist01.txt": "Archery/v_Archery_g08_c01.avi 3\n",
    "testlist01.txt": "Archery/v_Archery_g01_c01.avi\n",
    "trainlist02.txt": "Archery/v_Archery_g01_c01.avi 3\n",
    "testlist02.txt": "Archery/v_Archery_g08_c01.avi\n",
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for key in CLIPS:
        (folder / key.split("_")[1]).mkdir(exist_ok=True)
        (folder / key.split("_")[1] / f"{key}.mp4").write_bytes(encode_h264(numbered(5), 10))
    return folder


def convert(annotations: str | Path, videos: Path, **settings: int) -> Imported:
    return import_annotations(importer_of("ucf101")(**settings), [str(annotations)], str(videos))


def test_a_list_names_the_clips_and_their_files_say_how_long_they_are(tmp_path: Path, videos: Path) -> None:
    imported = convert(write_files(tmp_path, LISTS), videos)
    assert by_key(imported) == {
        "v_Archery_g01_c01": ("test", [Segment("Archery", 0.0, 0.5)]),
        "v_Archery_g08_c01": ("train", [Segment("Archery", 0.0, 0.5)]),
    }
    assert (imported.classes, imported.corrections) == (("ApplyEyeMakeup", "Archery"), {})
    other = convert(write_files(tmp_path, LISTS), videos, split=2)
    assert {key: subset for key, (subset, _) in by_key(other).items()} == {
        "v_Archery_g01_c01": "train",
        "v_Archery_g08_c01": "test",
    }


@pytest.mark.parametrize(("split", "tested"), [(1, {"01", "07"}), (2, {"08"}), (3, {"15"})])
def test_without_lists_the_groups_make_the_split(videos: Path, split: int, tested: set[str]) -> None:
    found = by_key(convert(videos, videos, split=split))
    assert sorted(found) == sorted(CLIPS)
    assert {key.split("_")[2][1:] for key, (subset, _) in found.items() if subset == "test"} == tested


def test_the_class_that_files_spell_otherwise_is_called_as_in_the_class_list(tmp_path: Path) -> None:
    (tmp_path / "v_HandStandPushups_g08_c01.avi").write_bytes(encode_h264(numbered(5), 10))
    (tmp_path / "classInd.txt").write_text("37 HandstandPushups\n")
    imported = convert(tmp_path, tmp_path)
    assert [segment.label for video in imported.videos for segment in video.segments] == ["HandstandPushups"]


def test_a_broken_clip_is_left_out_and_counted(tmp_path: Path, videos: Path) -> None:
    lists = LISTS | {"trainlist01.txt": "Archery/v_Archery_g09_c01.avi 3\n"}
    imported = convert(write_files(tmp_path, lists), videos)
    assert list(by_key(imported)) == ["v_Archery_g01_c01"]
    assert imported.corrections == {UNMEASURED: ["v_Archery_g09_c01"]}


def test_lists_without_the_clips_do_not_say_how_long_they_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--videos"):
        import_annotations(importer_of("ucf101")(), [write_files(tmp_path, LISTS)])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Archery/archery_1.avi 3\n", r"trainlist01\.txt:1: .* is no clip of UCF101"),
        ("Archery/v_Archery_g01_c01.avi 3\n", r"v_Archery_g01_c01\.avi is listed twice"),
    ],
)
def test_damaged_lists_are_refused_with_their_line(tmp_path: Path, videos: Path, line: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        convert(write_files(tmp_path, LISTS | {"trainlist01.txt": line}), videos)
