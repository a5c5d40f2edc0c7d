"""docs/extending.md, followed to the letter: its code is put into a copy of the package, trained, exported and served."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch

import tadscale
from tadscale.engine.batch import WindowBatch
from tadscale.engine.engine import LocalEngine
from tadscale.engine.optim import OptimConfig
from tadscale.engine.pretrain import PretrainConfig, TargetScale, pretrain_step
from tadscale.engine.steps import Lesson, StudentConfig, step_function
from tadscale.flow import estimator, motion
from tadscale.models import fusion
from tadscale.models.backbones.base import Backbone
from tadscale.models.heads.objective import Targets, build_objective
from tadscale.network import Mode, NetworkSpec, save_network
from tadscale.runtime.jobs.preflight import windows
from tests.serving.tiny import SPEC, clip

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tadscale"
PAGE = (ROOT / "docs" / "extending.md").read_text()
BLOCKS = dict(re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
LISTS = {"tadscale/models/heads/__init__.py", "tadscale/models/backbones/__init__.py"}
NEW = {
    "tadscale/models/heads/toy/__init__.py",
    "tadscale/models/heads/toy/network.py",
    "tadscale/models/heads/toy/objective.py",
    "tadscale/models/backbones/toy.py",
}
TINY = {"heads": '"toy": {"width": 9}', "backbones": '"toy": {"width": 8}'}
MODES: tuple[Mode, ...] = ("teacher", "baseline", "conventional", "decomposed")
CLASSES, FRAMES, PIXELS = SPEC.classes, SPEC.window.frames, SPEC.window.height


def extend_list(text: str, block: str) -> str:
    """A package's `__init__` with the page's import and its entry in the list; `...` there is what is here already."""
    added_import, entry = block.strip().split("\n\n")
    name, added = re.fullmatch(r"(\w+) = Annotated\[\.\.\.(.*), ChosenByName\(\)\]", entry).groups()
    text, count = re.subn(rf"^({name} = Annotated\[[^,]+)", rf"\1{added}", text, flags=re.MULTILINE)
    assert count == 1
    return text.replace("\nfrom tadscale.config ", f"\n{added_import}\nfrom tadscale.config ", 1)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of the package to which the page is applied."""
    folder = tmp_path_factory.mktemp("extended")
    shutil.copytree(PACKAGE, folder / "tadscale", ignore=shutil.ignore_patterns("__pycache__"))
    for name, block in BLOCKS.items():
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        target.write_text(extend_list(target.read_text(), block) if target.exists() else block)
    return folder


def run(extended: Path, code: str, *paths: Path, timeout: float = 120) -> str:
    """What a process prints that finds these folders first, and the repository's own package never before them."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(extended)]
    done = subprocess.run(
        command, cwd=paths[0], env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_adds_files_and_edits_two_lists_alone(extended: Path) -> None:
    assert set(BLOCKS) == NEW | LISTS | {"toy.yaml"}
    changed = {
        path.relative_to(extended).as_posix()
        for path in extended.rglob("*.py")
        if not (own := ROOT / path.relative_to(extended)).exists() or own.read_bytes() != path.read_bytes()
    }
    assert changed == NEW | LISTS


def learn_and_export(folder: Path) -> None:
    """In a process whose package is the copy: the page's job, a step of every mode, detections, and the exported files."""
    from tadscale.runtime.jobs.job_file import load_job
    from tadscale.runtime.models.shipped_code import copy_shipped_files
    from tadscale.serving.path import DetectionPath

    assert Path(tadscale.__file__).is_relative_to(folder)
    model = load_job(folder / "toy.yaml").model
    assert (model.head.name, model.head.width, model.backbone.name) == ("toy", 5, "toy")
    objective = build_objective(model.head, len(CLASSES))
    lesson = Lesson(objective=objective, student=StudentConfig(), global_batch=2)
    for mode in MODES:
        spec = SPEC.model_copy(update={"mode": mode, "model": model, "in_channels": 2 if mode == "teacher" else 3})
        network, batch = spec.build(for_training=True), make_batch(spec)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        engine = LocalEngine(network, OptimConfig(lr=0.01))
        engine.set_lr(0.01)
        parts = step_function(mode, lesson)(network, batch)
        engine.backward(parts["loss"])
        assert engine.step() > 0 and parts["loss"].isfinite()
        assert any(not torch.equal(before[name], value) for name, value in network.state_dict().items())
        seen = batch.motion_fields if mode == "teacher" else batch.frames
        found = DetectionPath.of(spec).detect(network.eval(), seen, batch.mask)
        assert all(len(window.scores) for window in found)
    learn_pretext(SPEC.model_copy(update={"mode": "pretrain", "model": model, "in_channels": 2}))
    save_network(str(folder / "detector"), spec, network.state_dict())
    copy_shipped_files(folder / "consumer")


def learn_pretext(spec: NetworkSpec) -> None:
    """A step without labels, after which every weight of the backbone is another."""
    network, batch = spec.build(for_training=True), make_batch(SPEC.model_copy(update={"model": spec.model}))
    before = {name: value.clone() for name, value in network.backbone.named_parameters()}
    scale = TargetScale(motion_std=1.0, colour_mean=(0.0, 0.0, 0.0), colour_std=(1.0, 1.0, 1.0))
    engine = LocalEngine(network, OptimConfig(lr=0.01))
    engine.set_lr(0.01)
    engine.backward(pretrain_step(PretrainConfig(), scale, network, batch)["loss"])
    assert engine.step() > 0
    assert all(not torch.equal(before[name], value) for name, value in network.backbone.named_parameters())


def make_batch(spec: NetworkSpec) -> WindowBatch:
    """Two windows of noise, with what an untrained teacher says of their motion."""
    torch.manual_seed(0)
    motion, mask = torch.rand(2, 2, FRAMES, PIXELS, PIXELS) * 2 - 1, torch.ones(2, FRAMES, dtype=torch.bool)
    teacher = spec.model_copy(update={"mode": "teacher", "in_channels": 2}).build().eval()
    with torch.no_grad():
        taught = teacher(motion, mask)
    return WindowBatch(
        positions=torch.arange(2),
        valid=torch.ones(2, dtype=torch.bool),
        labelled=torch.ones(2, dtype=torch.bool),
        mask=mask,
        targets=Targets(segments_frames=torch.tensor([[[2.0, 9.0]], [[0.0, 0.0]]]), labels=torch.tensor([[1], [-1]])),
        frames=torch.randint(0, 256, (2, FRAMES, PIXELS, PIXELS, 3), dtype=torch.uint8),
        motion_fields=motion,
        teacher=taught,
    )


LESSON = "import pathlib, sys, tests.test_extending as here; here.learn_and_export(pathlib.Path(sys.argv[1]))"
CONSUMER = """
import importlib.abc, json, pathlib, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"ray", "deepspeed", "mlflow", "webdataset"}:
            raise ImportError(f"{name} is not here")
sys.meta_path[:] = [Absent(), *(f for f in sys.meta_path if "editable" not in str(getattr(f, "__name__", f)).lower())]
from tadscale.serving.predictor import Predictor
folder = pathlib.Path(sys.argv[1])
_, found = Predictor.from_directory(folder / "detector", "cpu").detect((folder / "clip.mp4").read_bytes(), "clip")
files = sorted(m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "tadscale")
print(json.dumps({"labels": [row.label for row in found], "files": files}))
"""


def test_a_fusion_and_a_motion_have_the_places_that_the_page_names() -> None:
    assert set(get_args(fusion.FusionName)) == set(fusion.FUSIONS)
    places = {
        fusion: ("FusionName", "FUSIONS"),
        motion: ("Motion", "motion_channels", "build_motion"),
        motion.MotionConfig: ("fingerprint", "_clip_is_for_flow"),
        estimator: ("FlowEstimator", "FlowMotion"),
        windows: ("_least_side_px",),
        Backbone: ("maps", "stages", "stage_channels", "unseen", "offset"),
    }
    for owner, names in places.items():
        for name in names:
            assert hasattr(owner, name) and re.search(rf"`(\w+\.)?{name}`", PAGE), name


def test_it_learns_in_every_mode_and_detects_with_the_exported_files_alone(extended: Path) -> None:
    run(extended, LESSON, extended, ROOT)
    (extended / "clip.mp4").write_bytes(clip(2.0))
    consumer = extended / "consumer"
    report = json.loads(run(extended, CONSUMER, consumer).splitlines()[-1])
    assert report["labels"] and set(report["labels"]) <= set(CLASSES)
    files = {Path(file).relative_to(consumer).as_posix() for file in report["files"]}
    assert NEW - files == {"tadscale/models/heads/toy/objective.py"}
    assert not (consumer / "tadscale/models/heads/toy/objective.py").exists()


MISSPELT = """
import pathlib, sys
from tadscale.runtime.jobs.job_file import load_job
for override in ("model.head.name=toyy", "model.backbone.name=toyy", "model.head.widht=5"):
    try:
        load_job(pathlib.Path(sys.argv[1], "toy.yaml"), [override])
    except ValueError as error:
        print(error)
"""


def test_a_misspelt_name_gets_the_nearest(extended: Path) -> None:
    said = run(extended, MISSPELT, extended)
    assert "model.head.name: there is no 'toyy'; did you mean `toy`?" in said
    assert "model.backbone.name: there is no 'toyy'; did you mean `toy`?" in said
    assert "model.head.widht: unknown key; did you mean `width`?" in said


@pytest.mark.parametrize("kind", TINY)
def test_it_conforms(extended: Path, kind: str) -> None:
    """With the line that the page adds to the suite's table; without it, the suite says where that line belongs."""
    assert TINY[kind] in PAGE
    suite = f"tests.models.{kind}.test_conformance"
    arguments = [str(ROOT / f"{suite.replace('.', '/')}.py"), "-k", "toy and not exported", "-p", "no:cacheprovider"]
    code = f"""
import pytest, sys, {suite} as suite
lines = {{"there": {{{TINY[kind]}}}, "missing": {{}}}}
for line in lines:
    suite.TINY.pop("toy", None)
    suite.TINY.update(lines[line])
    print(line, int(pytest.main({arguments!r} + ["-x"])))
"""
    said = run(extended, code, extended, ROOT)
    assert "there 0" in said and "missing 1" in said
    assert f"no tiny settings for the {kind[:-1]} 'toy': add a line for it to TINY in test_conformance.py" in said
