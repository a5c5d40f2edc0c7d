"""`tadscale data import`: what it writes, says and refuses."""

import json
from pathlib import Path

import pytest

from tadscale.cli import main
from tadscale.data.encode import encode_h264
from tadscale.data.importers import described_importers
from tadscale.data.manifest import read_manifest
from tests.data.clips import numbered

LINES = "video_validation_0000001 0.5 1.5\nvideo_validation_0000001 0.5 1.5\n"


@pytest.fixture
def text(tmp_path: Path) -> str:
    """THUMOS14 in its text form: a video of either subset."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "Diving_val.txt").write_text(LINES)
    (tmp_path / "text" / "Diving_test.txt").write_text("video_test_0000002 0.0 9.0\n")
    return str(tmp_path / "text")


def test_annotations_alone_become_json_and_a_table(tmp_path, monkeypatch, text, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "import", "thumos14", text]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    expected = (
        "1 videos, 1 segments",
        "1 of 20 published",
        "segments written twice, kept once",
        "video_validation_0000001: 'Diving' at [0.5, 1.5] s",
        "test set as given: 1 instances in 1 videos: none of the ground truths in use",
    )
    assert [words for words in expected if words not in printed] == []
    entry = json.loads((tmp_path / "thumos14.json").read_text())["database"]["video_validation_0000001"]
    assert entry == {"subset": "validation", "annotations": [{"label": "Diving", "segment": [0.5, 1.5]}]}


def test_classes_can_be_left_to_a_classifier_of_whole_videos(tmp_path, text, capsys):
    out = tmp_path / "mine.json"
    assert main(["data", "import", "thumos14", text, "--out", str(out), "--one-class", "action"]) == 0
    assert "all 1 classes are labelled 'action'" in " ".join(capsys.readouterr().out.split())
    entries = json.loads(out.read_text())["database"].values()
    assert {one["label"] for entry in entries for one in entry["annotations"]} == {"action"}


def test_another_file_is_not_written_over(tmp_path, text, capsys):
    out = tmp_path / "mine.json"
    out.write_text("{}")
    assert main(["data", "import", "thumos14", text, "--out", str(out)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert out.read_text() == "{}"
    assert main(["data", "import", "thumos14", text, "--out", str(out), "--overwrite"]) == 0
    assert main(["data", "import", "thumos14", text, "--out", str(out)]) == 0  # the same again


def test_with_videos_it_goes_on_and_packs_them(tmp_path, text, capsys):
    videos, out = tmp_path / "videos", tmp_path / "shards"
    videos.mkdir()
    (videos / "video_validation_0000001.mp4").write_bytes(encode_h264(numbered(20), 10))
    command = ["data", "import", "thumos14", text, "--videos", str(videos), "--out", str(out)]
    assert main([*command, "--budget", "0"]) == 1
    assert "the budget is 0" in capsys.readouterr().err
    assert main([*command, "--budget", "0.5", "--transcode", "fps=5", "--overwrite"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "video_test_0000002: annotated, but there is no file of it" in printed
    [row] = read_manifest(str(out)).rows
    assert (row.key, row.subset, row.labels, row.start_s, row.fps) == (
        "video_validation_0000001",
        "validation",
        ("Diving",),
        (0.5,),
        5,
    )
    assert len(json.loads((out / "annotations.json").read_text())["database"]) == 2


def test_the_help_lists_every_data_set(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["data", "import", "--help"])
    assert ended.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert [line for name, line in described_importers().items() if f"{name} {line}" not in printed] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["thumos", "TEXT"], "did you mean `thumos14`"),
        (["thumos14", "TEXT", "--set", "varient=3311"], "did you mean `variant`"),
        (["thumos14", "TEXT", "--set", "variant=3312"], "3358"),
        (["thumos14", "TEXT", "--transcode", "fps=10"], "give their folder as --videos"),
        (["hacs", "TEXT"], "is one of HACS_segments_v1.1.1.json"),
    ],
)
def test_mistakes_are_named(tmp_path, monkeypatch, text, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "import", *(text if option == "TEXT" else option for option in options)]) == 1
    assert message in capsys.readouterr().err
