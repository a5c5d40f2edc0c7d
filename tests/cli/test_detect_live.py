"""`tadscale detect --live`: lines of JSON from a file and from a pipe, while it is being written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tadscale.cli import main
from tadscale.cli.detect_live import detect_live
from tests.serving.conftest import package, video  # noqa: F401
from tests.serving.test_live_frames import as_stream
from tests.serving.tiny import clip

ALL = ["--min-score", "0.002"]  # the tiny detector knows nothing, and is sure of nothing


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_file_as_a_stream(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    (tmp_path / "clip.mp4").write_bytes(clip(6.0))
    assert main(["detect", str(package), "--live", str(tmp_path / "clip.mp4"), *ALL]) == 0
    found = lines(capsys.readouterr().out)
    assert len(found) > 5 and len({json.dumps(row) for row in found}) == len(found)
    assert all(set(row) == {"label", "start_s", "end_s", "seen_s", "score"} and row["score"] >= 0.002 for row in found)
    seen = [row["seen_s"] for row in found]
    assert seen == sorted(seen) and seen[0] == 1.6 and seen[-1] == 6.0
    assert all(0 <= row["start_s"] < row["end_s"] <= row["seen_s"] for row in found)
    assert all(0.8 <= row["seen_s"] - row["end_s"] <= 1.6 for row in found if row["seen_s"] < 6.0)
    direct = list(detect_live(str(package), str(tmp_path / "clip.mp4"), device="cpu", min_score=0.002))
    assert [row.label for row in direct] == [row["label"] for row in found]

    least = sorted(row["score"] for row in found)[-1]
    assert main(["detect", str(package), "--live", str(tmp_path / "clip.mp4"), "--min-score", str(least - 1e-4)]) == 0
    assert 1 <= len(lines(capsys.readouterr().out)) <= 2


def test_lines_come_before_the_pipe_is_closed(package: Path) -> None:  # noqa: F811
    stream = as_stream(clip(10.0))
    process = subprocess.Popen(
        [sys.executable, "-m", "tadscale", "detect", str(package), "--live", "-", "--hop", "4", *ALL],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdin and process.stdout
    try:
        process.stdin.write(stream[: len(stream) * 3 // 4])
        process.stdin.flush()
        first = json.loads(process.stdout.readline())
        assert first["seen_s"] < 7.5
        rest, errors = process.communicate(stream[len(stream) * 3 // 4 :], timeout=120)
        assert process.returncode == 0, errors.decode()
        assert lines(rest.decode())[-1]["seen_s"] == 10.0
    finally:
        process.kill()
        process.wait(10)


def test_what_cannot_be_is_said(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    for arguments in (["detect", str(package)], ["detect", str(package), "a.mp4", "--live", "b.mp4"]):
        assert main(arguments) == 1
        assert "name videos, or a stream with --live" in capsys.readouterr().err
    assert main(["detect", str(package), "--live", str(tmp_path / "none.mp4")]) == 1
    assert "none.mp4 cannot be read" in capsys.readouterr().err
    assert main(["detect", str(package), "--live", str(tmp_path / "none.mp4"), "--hop", "99"]) == 1
    assert "must be 1 to that many" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--live", "b.ts", "--html", "page.html"], "--live takes no --html"),
        (["--live", "b.ts", "--json", "--top-k", "0"], "--live takes no --json, --top-k"),
        (["a.mp4", "--hop", "8"], "--hop is of --live alone"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["detect", "nobody", *options]) == 1
    assert message in capsys.readouterr().err
