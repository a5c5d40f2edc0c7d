import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tadscale.errors import UserError
from tadscale.serving import Predictor
from tests.serving.web import serving

COLUMNS = ["video", "label", "start_s", "end_s", "score"]


@pytest.fixture(scope="module")
def model(package: Path) -> Any:
    import mlflow

    return mlflow.pyfunc.load_model(str(package))


@pytest.fixture(scope="module")
def expected(package: Path, video: bytes) -> list[tuple]:
    _, detections = Predictor.from_directory(package, "cpu").detect(video, "clip")
    return [(row.label, row.start_s, row.end_s, row.score) for row in detections]


def rows(table: Any) -> list[tuple]:
    assert list(table.columns) == COLUMNS
    return [tuple(row) for row in table[COLUMNS[1:]].itertuples(index=False)]


def test_paths_urls_and_bytes_as_list_table_or_dictionary(
    model: Any, expected: list[tuple], video: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    path = tmp_path / "clip.mp4"
    path.write_bytes(video)
    assert len(expected) > 3
    with serving({"/clip.mp4": video}) as url:
        for source in (str(path), path.as_uri(), f"{url}/clip.mp4"):
            for given in ([source], pd.DataFrame({"video": [source]}), {"video": [source]}):
                table = model.predict(given)
                assert rows(table) == expected
                assert set(table["video"]) == {source}
    assert rows(model.predict([path])) == expected
    for given in ([video], pd.DataFrame({"video": [video]}), [bytearray(video)], [memoryview(video)]):
        assert rows(model.predict(given)) == expected
    several = pd.DataFrame({"video": [str(path), video], "place": ["here", "there"]})
    assert model.predict(several)["video"].value_counts().to_dict() == {
        str(path): len(expected),
        "video-1": len(expected),
    }


def test_the_input_example_works_as_it_stands(model: Any, package: Path) -> None:
    example = json.loads((package / "input_example.json").read_text())
    assert len(model.predict(example)) > 0


def test_min_score_leaves_out_weak_detections(model: Any, video: bytes) -> None:
    table = model.predict([video])
    middle = sorted(table["score"])[len(table) // 2]
    strong = model.predict([video], params={"min_score": middle})
    assert strong["score"].tolist() == [score for score in table["score"] if score >= middle]
    nothing = model.predict([video], params={"min_score": 2.0})
    assert list(nothing.columns) == COLUMNS and not len(nothing)


def test_a_min_score_that_is_no_number_is_refused(model: Any, video: bytes) -> None:
    with pytest.raises(UserError, match="min_score is nan"):
        model.predict([video], params={"min_score": float("nan")})


def test_a_file_whose_name_is_no_text_is_found_again_by_it(
    model: Any, expected: list[tuple], video: bytes, tmp_path: Path
) -> None:
    named = os.fsdecode(os.fsencode(tmp_path) + b"/latin-\xe9.mp4")
    Path(named).write_bytes(video)
    table = model.predict([named, video])
    assert rows(table[table["video"] == named]) == expected and len(table) == 2 * len(expected)


def test_bad_videos_are_an_error_that_names_each(model: Any, video: bytes, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match=r"2 of 3 .*text.mp4: cannot be fetched.*none.mp4: cannot be fetched") as error:
        model.predict([video, str(tmp_path / "text.mp4"), str(tmp_path / "none.mp4")])
    reasons = str(error.value).split(": ", 1)[1].replace("text.mp4", "none.mp4").split("; /")
    assert len({reason.rpartition("none.mp4: ")[2].split(". Check")[0] for reason in reasons}) == 1
    with pytest.raises(ValueError, match="video-0: not a readable container"):  # the caller's own bytes
        model.predict([b"no video"])


def test_answers_do_not_tell_a_stranger_what_is_there(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An open port, a closed one, a page and none, a file, a folder, a device: one answer. The log has the reasons."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "a.mp4").write_text("secret")
    told = set()
    with serving({"/page": b"secret"}) as url:
        port = url.rpartition(":")[2]
        for source in (f"{url}/page", f"{url}/none", "http://127.0.0.1:1/", str(tmp_path / "a.mp4"), str(tmp_path),
                       str(tmp_path / "none"), "/dev/zero", "http://127.0.0.1:99999/", "a\0b", "http://[x/"):  # fmt: skip
            with pytest.raises(ValueError, match="1 of 1") as error:
                model.predict([source])
            told.add(str(error.value).replace(source, "IT"))
    assert len(told) == 1, told
    assert "secret" not in str(told) and port not in str(told)
    assert "404" in caplog.text and "refused" in caplog.text and "a device or a pipe" in caplog.text


def test_behind_a_port_neither_files_nor_private_addresses_are_read(
    model: Any, video: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("__pyfunc_model_path__", "as MLflow's scoring server sets it")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "clip.mp4").write_bytes(video)
    with serving({"/clip.mp4": video}) as url:
        for source in (str(tmp_path / "clip.mp4"), f"{url}/clip.mp4"):
            with pytest.raises(ValueError, match="allowed are https, data"):
                model.predict([source])
        monkeypatch.setenv("TADSCALE_VIDEO_SCHEMES", "http")
        with pytest.raises(ValueError, match="cannot be fetched"):
            model.predict([f"{url}/clip.mp4"])
        assert "not public" in caplog.text
        monkeypatch.setenv("TADSCALE_VIDEO_HOSTS", "127.0.0.1")
        assert len(model.predict([f"{url}/clip.mp4"])) > 3
    assert len(model.predict([video])) > 3


def test_the_column_called_video_is_taken_wherever_it_stands(model: Any, expected: list[tuple], video: bytes) -> None:
    import pandas as pd

    table = pd.DataFrame({"place": ["/dev/null"], "video": [video]})
    assert rows(model.predict(table)) == expected
    assert rows(model.predict({"place": ["here"], "video": [video]})) == expected
    with pytest.raises(ValueError, match='pass one column, or name one "video"'):
        model.predict(pd.DataFrame({"a": ["x"], "b": ["y"]}))


def test_a_limit_on_detections_is_said_and_can_be_lifted(
    model: Any, video: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    usual = model.predict([video])
    assert len(usual) == 20 and "only the 20 strongest detections" in caplog.text
    caplog.clear()
    assert len(model.predict([video], params={"top_k": 5})) == 5
    more = model.predict([video], params={"top_k": 1000})
    assert len(more) > 20 and caplog.text.count("strongest") == 1
    assert more["score"].tolist()[:20] == usual["score"].tolist()


def test_the_model_holds_no_pickle_and_no_path_of_this_machine(package: Path) -> None:
    # Python caches what tests before this one imported from it, unless PYTHONDONTWRITEBYTECODE is set.
    files = [path for path in package.rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
    assert {path.suffix for path in files} <= {"", ".py", ".json", ".safetensors", ".txt", ".yaml", ".md"}
    for path in files:
        data = path.read_bytes()
        assert not data.startswith(b"\x80") and b"PK\x03\x04" not in data[:4], (
            f"{path} looks like a pickle or an archive"
        )
        assert str(Path(__file__).parents[2]).encode() not in data, path
        assert str(package.parent).encode() not in data and b"/tmp/" not in data, path


# What a consumer does not have. The finder refuses each, and tadscale wherever it is installed: only the model's own copy
# can be imported.
CONSUMER = """
import importlib.abc, json, sys
ABSENT = {"ray", "deepspeed", "webdataset", "s3fs", "cv2", "matplotlib", "pyarrow_hotfix", "rich", "boto3"}
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ABSENT:
            raise ImportError(f"{name} is not here")
sys.meta_path[:] = [Absent(), *(f for f in sys.meta_path if "editable" not in str(getattr(f, "__name__", f)).lower())]
try:
    import tadscale
except ImportError:
    pass
else:
    raise SystemExit("this test hides nothing: tadscale can be imported")
import mlflow
table = mlflow.pyfunc.load_model(sys.argv[1]).predict([sys.argv[2]])
import tadscale
print(json.dumps({"home": tadscale.__file__, "rows": table.values.tolist(),
                  "modules": sorted(name for name in sys.modules if name.split(".")[0] in ABSENT | {"tadscale"})}))
"""


def test_a_consumer_needs_no_tadscale_and_no_training_stack(
    package: Path, expected: list[tuple], video: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(video)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", CONSUMER, str(package), str(path)],
        cwd=tmp_path, env=environment | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert Path(report["home"]).is_relative_to(package)
    assert [tuple(row[1:]) for row in report["rows"]] == expected
    used = [name for name in report["modules"] if name.startswith("tadscale")]
    assert used and not [name for name in report["modules"] if name not in used]
    assert not [name for name in used if name.startswith(("tadscale.runtime", "tadscale.engine", "tadscale.flow"))]
