"""The list of importers, and the way from a data set's files to JSON that this project reads."""

from pathlib import Path

import pytest

from tadscale.data.annotations import parse_ground_truth
from tadscale.data.encode import encode_h264
from tadscale.data.importers import described_importers, importer_of
from tadscale.data.importers.convert import import_annotations
from tadscale.data.importers.corrections import CLIPPED, OUTSIDE, TWICE
from tadscale.errors import UserError
from tests.data.clips import numbered
from tests.data.importers import counts, import_files, write_files

DIVES = "video_test_0000001 0.5 1.5\nvideo_test_0000001 5.0 6.0\nvideo_test_0000002 0.5 1.5\n"


def test_every_importer_has_a_line_and_its_own_name() -> None:
    lines = described_importers()
    assert {"thumos14", "activitynet13", "multithumos", "fineaction", "hacs"} < lines.keys()
    assert {"charades", "epic_kitchens_100", "ego4d_mq", "ucf101"} < lines.keys()
    assert all(len(line) > 20 and line[0].isupper() for line in lines.values())
    assert "variant" in lines["thumos14"]
    assert {name: importer_of(name)().model_dump()["name"] for name in lines} == {name: name for name in lines}


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="'thumos' is no data set that can be imported: did you mean `thumos14`"):
        importer_of("thumos")


def test_the_document_is_read_back_as_it_was(tmp_path: Path) -> None:
    imported = import_files(tmp_path, "thumos14", {"Diving_test.txt": DIVES + DIVES})
    document = imported.document()
    assert tuple(parse_ground_truth(document, "a.json")) == imported.videos
    assert document["classes"] == ["Diving"]
    assert document["corrections"] == imported.corrections
    assert counts(imported) == {TWICE: 3}
    assert len(document["notes"]) == 1


def test_one_class_labels_all_alike_and_keeps_a_segment_once(tmp_path: Path) -> None:
    """THUMOS14 labels every CliffDiving as Diving, too."""
    lines = {"Diving_test.txt": DIVES, "CliffDiving_test.txt": "video_test_0000001 0.5 1.5\n"}
    write_files(tmp_path, lines)
    imported = import_annotations(importer_of("thumos14")(), [str(tmp_path)], one_class="action")
    assert imported.classes == ("action",)
    assert [[(one.label, one.start_s) for one in video.segments] for video in imported.videos] == [
        [("action", 0.5), ("action", 5.0)],
        [("action", 0.5)],
    ]
    assert "all 2 classes are labelled 'action'" in imported.notes


def test_lengths_are_measured_where_the_files_state_none_and_there_are_videos(tmp_path: Path) -> None:
    write_files(tmp_path / "text", {"Diving_test.txt": DIVES})
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "video_test_0000001.mp4").write_bytes(encode_h264(numbered(10), 10))
    (tmp_path / "videos" / "video_test_0000003.mp4").write_bytes(b"no video")
    imported = import_annotations(importer_of("thumos14")(), [str(tmp_path / "text")], str(tmp_path / "videos"))
    assert [(video.duration_s, len(video.segments)) for video in imported.videos] == [(1.0, 1), (None, 1)]
    assert counts(imported) == {CLIPPED: 1, OUTSIDE: 1}
