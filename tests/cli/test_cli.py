"""The command line: what it prints, what it refuses, and its exit codes."""

import json
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pytest

from tadscale.cli import main, protocol
from tadscale.metrics.protocols import PROTOCOLS

TRUTH = {
    "database": {
        "a": {"subset": "Test", "duration": "10", "annotations": [{"label": "jump", "segment": ["1.0", "3.0"]}]},
        "b": {"subset": "test", "duration": 10, "annotations": [{"label": "run", "segment": [2, 6]}]},
    }
}
FOUND = {
    "results": {
        "a": [{"label": "jump", "segment": [1.0, 3.0], "score": "0.9"}],
        "b": [{"label": "run", "segment": [4.0, 8.0], "score": 0.8}],
    }
}


@pytest.fixture
def files(tmp_path) -> tuple[str, str]:
    """A detections file and its ground truth: one class found exactly, one at a tIoU of 1/3."""
    detections, truth = tmp_path / "detections.json", tmp_path / "truth.json"
    detections.write_text(json.dumps(FOUND))
    truth.write_text(json.dumps(TRUTH))
    return str(detections), str(truth)


def test_score_as_json(files, capsys):
    assert main(["score", *files, "--json", "--tiou", "0.3,0.5"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["mAP"] == [1.0, 0.5]


def test_score_as_a_table(files, capsys):
    assert main(["score", *files]) == 0
    text = capsys.readouterr().out
    assert "jump" in text
    assert "60.00" in text  # the mean of 1, .5, .5, .5, .5


def test_a_protocol_names_subset_and_thresholds(files, capsys):
    assert main(["score", *files, "--json", "--protocol", "thumos14"]) == 0
    assert json.loads(capsys.readouterr().out)["tiou"] == [0.3, 0.4, 0.5, 0.6, 0.7]
    assert main(["score", *files, "--json", "--protocol", "activitynet13"]) == 1
    assert "no video of subset 'validation'" in capsys.readouterr().err
    assert main(["score", *files, "--json", "--protocol", "activitynet13", "--subset", "test"]) == 0
    assert json.loads(capsys.readouterr().out)["tiou"][-1] == 0.95
    with pytest.raises(SystemExit):
        main(["score", *files, "--protocol", "thumos14", "--tiou", "0.5"])


def test_ground_truth_may_be_a_table(files, tmp_path, capsys):
    rows = "video,label,start,end,subset\na,jump,1,3,test\nb,run,2,6,test\n"
    (tmp_path / "truth.csv").write_text(rows)
    assert main(["score", files[0], str(tmp_path / "truth.csv"), "--json", "--tiou", "0.3,0.5"]) == 0
    assert json.loads(capsys.readouterr().out)["mAP"] == [1.0, 0.5]
    (tmp_path / "bare.csv").write_text(rows.replace(",subset", "").replace(",test", ""))
    assert main(["score", files[0], str(tmp_path / "bare.csv")]) == 1
    assert "bare.csv names no subset for any video" in (told := capsys.readouterr().err)
    assert "evaluation/ground_truth.json" in told


def test_the_protocols_that_the_parser_offers_exist():
    assert set(protocol.NAMES) == set(PROTOCOLS)


def test_report_writes_a_page_and_says_the_figures(files, tmp_path, capsys):
    page = tmp_path / "report.html"
    assert main(["report", *files, "--html", str(page)]) == 0
    assert "detections: average mAP 60.00" in capsys.readouterr().out
    assert "Error profile" in page.read_text()


def test_report_without_a_name_for_its_page_leaves_it_where_one_works(files, tmp_path, capsys, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["report", *files]) == 0
    assert "written: report.html" in capsys.readouterr().out
    assert "Error profile" in (tmp_path / "here" / "report.html").read_text()


def test_report_of_a_run_hears_its_options(files, tmp_path, capsys):
    evaluation = tmp_path / "run" / "evaluation"
    evaluation.mkdir(parents=True)
    (evaluation / "student.json").write_bytes(Path(files[0]).read_bytes())
    (evaluation / "ground_truth.json").write_bytes(Path(files[1]).read_bytes())
    (evaluation / "scores.json").write_text(json.dumps({"student": {"tiou": [0.3, 0.5]}}))
    command = ["report", str(tmp_path / "run"), "--html", str(tmp_path / "page.html")]
    assert main([*command, "--leave-out", "run"]) == 0
    assert "student: average mAP 100.00" in capsys.readouterr().out
    assert main([*command, "--subset", "train"]) == 1
    assert "evaluated on the subset 'test'" in capsys.readouterr().err


def test_rescore_is_read_by_score(files, tmp_path, capsys, monkeypatch):
    scores = tmp_path / "scores.json"
    scores.write_text(json.dumps({"results": {"a": [0.5, 0.1], "b": [0.9, 0.2]}, "class": ["jump", "run"]}))
    assert main(["rescore", files[0], str(scores), "--top-k", "1"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["results"] == {"a": [{"label": "jump", "score": 0.45, "segment": [1.0, 3.0]}], "b": []}
    monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(printed.encode())))
    assert main(["score", "-", files[1], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["average_mAP"] == 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["score", "nowhere.json", "nowhere.json"], "nowhere.json"),
        (["report", "nowhere", "--html", "page.html"], "no folder of an evaluated run"),
        (["rescore", "nowhere.json", "nowhere.json"], "nowhere.json"),
        (["run", "nowhere.yaml"], "no such job file"),
        (["data", "lint", "nowhere"], "nowhere"),
        (["detect", "nobody", "video.mp4", "--tracking-uri", "sqlite:///{tmp}/empty.db"], "nobody"),
        (["registry", "list", "nobody", "--tracking-uri", "sqlite:///{tmp}/empty.db"], "nobody"),
    ],
)
def test_mistakes_end_with_a_message_and_exit_code_1(arguments, message, tmp_path, capsys):
    assert main([argument.format(tmp=tmp_path) for argument in arguments]) == 1
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    """numpy's own ValueError, say: as a message alone it would be taken for a mistake of the user."""

    def fail(*_: object, **__: object) -> None:
        np.zeros(3).reshape(2)

    monkeypatch.setattr("tadscale.data.lint.lint", fail)
    with pytest.raises(ValueError, match="reshape"):
        main(["data", "lint", "nowhere"])


def test_sprites_can_be_drawn_linted_and_packed_again(tmp_path, capsys):
    from tadscale.data.manifest import read_manifest
    from tadscale.data.storage import read_range

    small = ["train=2", "validation=1", "test=1", "size=32", "duration_s=8"]
    drawn = str(tmp_path / "drawn")
    assert main(["data", "sprites", drawn, *(part for setting in small for part in ("--set", setting))]) == 0
    assert main(["data", "lint", drawn, "--decode"]) == 0
    assert "4 videos" in capsys.readouterr().out

    rows = read_manifest(drawn).rows
    videos = tmp_path / "videos"
    videos.mkdir()
    database = {}
    for row in rows:
        Path(videos, f"{row.key}.mp4").write_bytes(read_range(row.url, row.video_offset, row.video_bytes))
        entries = zip(row.labels, row.start_s, row.end_s, strict=True)
        annotations = [{"label": label, "segment": [start, end]} for label, start, end in entries]
        database[row.key] = {"subset": row.subset, "duration": row.duration_s, "annotations": annotations}
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({"database": database}))
    packed = str(tmp_path / "packed")
    assert main(["data", "pack", str(videos), str(truth), packed]) == 0
    again = read_manifest(packed).rows
    assert {row.key: (row.video_sha256, row.labels, row.subset) for row in again} == {
        row.key: (row.video_sha256, row.labels, row.subset) for row in rows
    }


def test_a_job_takes_the_sprites_that_the_command_drew_and_previews_them(tmp_path, capsys):
    from tadscale.data.sprites import SpritesConfig
    from tadscale.runtime.jobs.sprites import ensure_sprites

    settings = {"train": 2, "validation": 1, "test": 1, "size": 32, "duration_s": 8}
    drawn = str(tmp_path / "drawn")
    draw = ["data", "sprites", drawn, *(f"--set={name}={value}" for name, value in settings.items())]
    assert main(draw) == 0
    assert main(draw) == 1 and main([*draw, "--overwrite"]) == 0
    assert len(ensure_sprites(SpritesConfig(**settings), drawn)) == 4

    stored = Path(drawn, "sprites.json")  # of before there were layouts
    stored.write_text(
        json.dumps({key: value for key, value in json.loads(stored.read_text()).items() if key != "layout"})
    )
    assert len(ensure_sprites(SpritesConfig(**settings), drawn)) == 4
    with pytest.raises(ValueError, match="other settings"):
        ensure_sprites(SpritesConfig(**settings, layout="scene"), drawn)

    job = tmp_path / "job.yaml"
    job.write_text(f"kind: teacher\nname: x\nstorage: {tmp_path}\ndata: {{url: {drawn}}}\nmotion: {{name: dis}}\n")
    assert main(["data", "preview", str(job), str(tmp_path / "clips"), "--videos", "2"]) == 0
    names = sorted(path.name for path in (tmp_path / "clips").iterdir())
    assert names == [f"train-{index:05d}.{suffix}" for index in range(2) for suffix in ("mp4", "png")]


def test_foreign_shards_are_never_replaced_by_sprites(tmp_path, capsys):
    from tadscale.data.sprites import SpritesConfig
    from tadscale.runtime.jobs.sprites import ensure_sprites

    foreign = tmp_path / "shard-000000.tar"
    foreign.write_bytes(b"somebody's work")
    for _ in range(2):  # a refusal must leave nothing behind that makes the next attempt take the folder for its own
        assert main(["data", "sprites", str(tmp_path), "--set", "train=1"]) == 1
        with pytest.raises(ValueError, match="not sprites"):
            ensure_sprites(SpritesConfig(train=1), str(tmp_path))
    assert foreign.read_bytes() == b"somebody's work"
    assert [path.name for path in tmp_path.iterdir()] == [foreign.name]


def test_a_misspelt_sprites_setting_is_refused(tmp_path, capsys):
    assert main(["data", "sprites", str(tmp_path / "x"), "--set", "trian=3"]) == 1
    assert "trian" in capsys.readouterr().err


def test_pack_ends_with_a_table_of_what_became_of_the_videos(tmp_path, capsys):
    from tadscale.data.encode import encode_h264
    from tests.data.clips import numbered

    (tmp_path / "own").mkdir()
    for name in ("a", "b", "c", "stranger"):
        (tmp_path / "own" / f"{name}.mp4").write_bytes(encode_h264(numbered(20), 10))
    (tmp_path / "own" / "bad.mp4").write_bytes(b"rubbish")
    rows = [{"label": label, "segment": [0, 1]} for label in ("Jump", "jump ")]
    entry = {"annotations": rows, "duration": 90}
    database = dict.fromkeys(("a", "b", "c", "bad", *(f"gone{n}" for n in range(5))), entry)
    (tmp_path / "own.json").write_text(json.dumps({"database": database}))
    command = ["data", "pack", str(tmp_path / "own"), str(tmp_path / "own.json"), str(tmp_path / "out")]
    assert main(command) == 1
    assert "--split 0.8/0.1/0.1" in capsys.readouterr().err
    assert main([*command, "--split", "0.4/0.3/0.3"]) == 1
    assert "max_fraction" in capsys.readouterr().err
    assert main([*command, "--split", "0.4/0.3/0.3", "--budget", "2"]) == 1
    assert "--budget does not hold" in capsys.readouterr().err
    assert main([*command, "--split", "0.4/0.3/0.3", "--budget", "0.9", "--overwrite"]) == 0
    text = capsys.readouterr().out
    for part in ("3 videos", "bad: bad.mp4: not a readable", "... and 2 more of this kind", "quarantine.jsonl",
                 "1 files: stranger.mp4", "'Jump' (3 segments)", "90 s stated, 2.0 s in the file"):  # fmt: skip
        assert part in text
    main(["data", "lint", str(tmp_path / "out")])
    assert "warning: labels that differ by case, blanks or punctuation only" in capsys.readouterr().out


def test_options_are_refused_in_the_words_of_job_files(tmp_path, capsys):
    arguments = ["data", "pack", str(tmp_path), "a.json", str(tmp_path / "out"), "--transcode", "fsp=10"]
    assert main(arguments) == 1
    assert "fsp: unknown key; did you mean `fps`?" in capsys.readouterr().err
    assert main(["data", "sprites", str(tmp_path / "out"), "--set", "trian=2"]) == 1
    errors = capsys.readouterr().err
    assert "trian: unknown key; did you mean `train`?" in errors
    assert "http" not in errors
