import ast
import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tadscale.models.detector import Detector
from tadscale.network import save_network
from tadscale.runtime.models import shipped_code
from tadscale.runtime.models.packaging import package_model
from tadscale.runtime.models.shipped_code import ROOT, shipped_files
from tadscale.serving import Predictor
from tests.serving.conftest import package, video  # noqa: F401
from tests.serving.tiny import NETWORK, SPEC, student_weights


def test_a_student_leaves_without_its_branch_detector(package: Path) -> None:  # noqa: F811
    weights = load_file(package / "artifacts" / "detector" / "weights.safetensors")
    trained = student_weights()
    assert any(name.startswith("branch_head.") for name in trained)
    assert set(weights) == {name for name in trained if not name.startswith("branch_head.")}
    for name, value in weights.items():
        assert torch.equal(value, trained[name])


def test_the_same_detector_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        weights = dict(
            sorted(student_weights().items(), reverse=name == "b")
        )  # the order of the tensors must not count
        written = save_network(str(tmp_path / name), SPEC, weights)
    for name in ("network.json", "weights.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    other = save_network(str(tmp_path / "c"), SPEC, student_weights(seed=1))
    assert other.weights_sha256 != written.weights_sha256


def test_a_plain_detector(tmp_path: Path, video: bytes) -> None:  # noqa: F811
    torch.manual_seed(0)
    weights = Detector(NETWORK, in_channels=3, num_classes=2).state_dict()
    save_network(str(tmp_path / "model"), SPEC.model_copy(update={"mode": "conventional"}), weights)
    assert Predictor.from_directory(tmp_path / "model", "cpu").predict([video]).detections


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    for spec in (SPEC.model_copy(update={"mode": "baseline"}), SPEC.model_copy(update={"classes": ("one",)})):
        with pytest.raises(ValueError, match="the weights does not fit the architecture"):
            package_model(tmp_path / "model", spec, student_weights())
    assert not (tmp_path / "model").exists()


def test_a_packaged_teacher_says_that_it_reads_motion(tmp_path: Path) -> None:
    teacher = SPEC.model_copy(update={"mode": "teacher", "in_channels": 2})
    package_model(tmp_path / "model", teacher, teacher.build().state_dict())
    with pytest.raises(ValueError, match="motion teacher: it reads optical flow, and detects nothing"):
        Predictor.from_directory(tmp_path / "model")


def test_an_exported_model_holds_no_code_of_training() -> None:
    """Neither how a head is taught nor how detectors are fused; nor any loss."""
    shipped = {name.as_posix(): (shipped_code.ROOT / name).read_text() for name in shipped_code.shipped_files()}
    defined = {
        node.name
        for text in shipped.values()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    assert {"DetectionPath", "Student", "ActionFormerHead", "decode"} <= defined
    assert not defined & {"loss", "imitate", "fuse", "assign", "Objective", "Targets"}
    assert not [name for name in shipped if "objective" in name or name.startswith(("losses", "engine", "runtime"))]


def test_what_mlflow_is_told(package: Path) -> None:  # noqa: F811
    model = yaml.safe_load((package / "MLmodel").read_text())
    flavor = model["flavors"]["python_function"]
    assert flavor["model_code_path"] == "pyfunc.py" and "python_model" not in flavor
    assert model["signature"]["inputs"] is None, "of a table MLflow would pass on the first column, and not `video`"
    params = {entry["name"]: entry["default"] for entry in json.loads(model["signature"]["params"])}
    assert params == {"min_score": 0.0, "top_k": SPEC.inference.nms.top_k}
    assert [name in model["signature"]["outputs"] for name in ("video", "label", "start_s", "end_s", "score")] == [
        True
    ] * 5
    required = (package / "requirements.txt").read_text().split()
    names = {line.split("==")[0] for line in required}
    assert names == {"torch", "numpy", "av", "safetensors", "pydantic", "fsspec", "pandas", "mlflow"}
    assert all("==" in line and "+" not in line for line in required)
    assert (package / "model_card.md").read_text() == "# Tiny\n"


def test_only_what_detection_imports_is_shipped(package: Path) -> None:  # noqa: F811
    shipped = {path.as_posix() for path in shipped_files()}
    assert {
        "serving/predictor.py",
        "models/student.py",
        "data/decode.py",
        "metrics/nms.py",
        "data/__init__.py",
    } <= shipped
    assert not [name for name in shipped if name.split("/")[0] in ("runtime", "engine", "flow", "report")]
    assert not shipped & {"data/shards.py", "data/sprites.py", "cli.py", "job.py", "__main__.py"}
    code = package / "code" / "tadscale"
    assert {path.relative_to(code).as_posix() for path in code.rglob("*") if path.is_file()} == shipped
    for name in shipped:
        assert (code / name).read_bytes() == (ROOT / name).read_bytes()


def test_an_import_of_the_training_stack_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "__init__.py": "",
        "serving/__init__.py": "",
        "serving/predictor.py": "def late():\n    from tadscale.data import helper\n",
        "data/__init__.py": "",
        "data/helper.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from tadscale.engine import loop\n",
        "engine/__init__.py": "",
        "engine/loop.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(shipped_code, "ROOT", tmp_path)
    assert {path.as_posix() for path in shipped_files()} == {name for name in files if not name.startswith("engine")}
    (tmp_path / "data/helper.py").write_text("import tadscale.engine.loop\n")
    with pytest.raises(RuntimeError, match=r"imports tadscale.engine, tadscale.engine.loop, which .* must not carry"):
        shipped_files()
