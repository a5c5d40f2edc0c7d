"""Graphs without code say what the network says, and `detector.json` is enough to get detections out of them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tadscale.data.decode import decode_frames
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.config import ModelConfig
from tadscale.models.heads import HeadConfig
from tadscale.models.heads.actionformer.network import ActionFormerConfig
from tadscale.models.stored_weights import Precision, store_weights
from tadscale.models.student import BRANCH_HEAD
from tadscale.network import load_network, save_network
from tadscale.serving.export import ExportFormat, WindowNetwork, export_detector
from tadscale.serving.predictor import Predictor, detector_folder
from tests.models.heads.test_conformance import HEADS
from tests.models.heads.test_conformance import TINY as TINY_HEADS
from tests.serving.tiny import NETWORK, SPEC

pytestmark = pytest.mark.timeout(900)  # an export is 15 s of one core, and waits for it on a machine with other work

Graph = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
TOLERANCE: dict[ExportFormat, float] = {"torch_export": 1e-5, "onnx": 1e-4}


def load(path: Path) -> Graph:
    """As a consumer does: nothing of tadscale."""
    if path.suffix == ".pt2":
        module = torch.export.load(str(path)).module()
        return lambda frames, mask: tuple(x.numpy() for x in module(torch.from_numpy(frames), torch.from_numpy(mask)))
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda frames, mask: tuple(session.run(["scores", "segments"], {"frames": frames, "mask": mask}))


def windows() -> list[tuple[np.ndarray, np.ndarray]]:
    generator = np.random.default_rng(0)
    window = SPEC.window
    masks = [np.arange(window.frames)[None] < valid for valid in (window.frames, 9)]
    return [(generator.integers(0, 256, (1, window.frames, *window.frame_shape), np.uint8), mask) for mask in masks]


def assert_alike(graph: Graph, detector: Path, tolerance: float) -> None:
    network = WindowNetwork(load_network(str(detector))[0])
    for frames, mask in windows():
        expected = network(torch.from_numpy(frames), torch.from_numpy(mask))
        for found, wanted in zip(graph(frames, mask), expected, strict=True):
            np.testing.assert_allclose(found, wanted.numpy(), rtol=tolerance, atol=tolerance)


@pytest.fixture(scope="module", params=["torch_export", "onnx"])
def exported(request: pytest.FixtureRequest, package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "onnx":
        pytest.importorskip("onnxscript")
    return export_detector(detector_folder(package), tmp_path_factory.mktemp(request.param), form=request.param)


def test_a_graph_says_what_the_network_says(exported: Path, package: Path) -> None:
    form: ExportFormat = "onnx" if exported.suffix == ".onnx" else "torch_export"
    assert_alike(load(exported), detector_folder(package), TOLERANCE[form])


def test_it_holds_no_branch_detector_and_no_place_of_this_machine(exported: Path) -> None:
    data = exported.read_bytes()
    assert BRANCH_HEAD.encode() not in data
    assert str(Path(__file__).parents[2]).encode() not in data


def test_detector_json_is_enough_to_get_the_detections_of_evaluation(
    exported: Path, package: Path, video: bytes
) -> None:
    _, expected = Predictor.from_directory(package, "cpu").detect(video, "clip")
    found = consume(exported.parent, video)
    assert [row[0] for row in found] == [row.label for row in expected]
    wanted = [(row.start_s, row.end_s, row.score) for row in expected]
    np.testing.assert_allclose([row[1:] for row in found], wanted, atol=1e-4)


def consume(folder: Path, video: bytes) -> list[tuple[str, float, float, float]]:
    """What the steps of `detector.json` say, in numpy; of a clip of 3.45 s."""
    about = json.loads((folder / "detector.json").read_text())
    path = folder / about["graph"]["file"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == about["graph"]["sha256"]
    graph, window, decoding = load(path), about["window"], about["decoding"]
    total = int(np.ceil(3.45 * window["fps"]))
    frames = decode_frames(video, np.arange(total) / window["fps"], (window["height"], window["width"]))
    last = total - window["frames"]
    starts = [*range(0, last, window["stride_frames"]), last]
    rows = []
    for start in starts:
        given = frames[None, start : start + window["frames"]]
        assert list(given.shape) == about["input"]["frames"]["shape"]
        scores, segments = graph(given, np.ones(given.shape[:2], bool))
        assert list(scores.shape) == about["output"]["scores"]
        pairs = [(scores[0, p, k], p, k) for p in range(scores.shape[1]) for k in range(scores.shape[2])]
        for score, p, k in sorted(pairs, reverse=True)[: decoding["window_top_k"]]:
            if score >= decoding["nms"]["min_score"]:
                times = np.clip((segments[0, p].astype(float) + start) / window["fps"], 0, 3.45)
                rows.append([about["classes"][k], *times, float(score)])
    return soft_nms([row for row in rows if row[2] > row[1]], decoding["nms"])


def soft_nms(rows: list[list], nms: dict) -> list[tuple[str, float, float, float]]:
    assert nms["method"] == "soft" and not nms["class_agnostic"]
    kept: list[tuple[str, float, float, float]] = []
    while rows and (best := max(rows, key=lambda row: row[3]))[3] >= nms["min_score"]:
        rows.remove(best)
        kept.append(tuple(best))
        for row in rows:
            if row[0] == best[0]:
                common = max(0.0, min(row[2], best[2]) - max(row[1], best[1]))
                tiou = common / (row[2] - row[1] + best[2] - best[1] - common)
                row[3] *= np.exp(-(tiou**2) / nms["sigma"])
    return kept[: nms["top_k"]]


@pytest.mark.parametrize(
    ("form", "precision"),
    [
        ("onnx", "int8"),
        pytest.param("onnx", "bfloat16", marks=pytest.mark.slow),
        pytest.param("torch_export", "int8", marks=pytest.mark.slow),
        pytest.param("torch_export", "bfloat16", marks=pytest.mark.slow),
    ],
)
def test_a_graph_of_rounded_weights_says_what_the_network_says_with_them(
    form: ExportFormat, precision: Precision, tmp_path: Path
) -> None:
    """As wide as the demo's: constants of more than a few values are not computed ahead."""
    detector = tmp_path / "detector"
    wide = ModelConfig(
        backbone=Small3dConfig(width=16), dim=64, head=ActionFormerConfig(dim=64, levels=2, heads=2, reach=2)
    )
    spec = SPEC.model_copy(update={"model": wide})
    torch.manual_seed(0)
    save_network(str(detector), spec, spec.build(for_training=True).state_dict())
    graph = load(export_detector(detector, tmp_path, form=form, precision=precision))
    plain = WindowNetwork(load_network(str(detector))[0])
    rounded = WindowNetwork(store_weights(load_network(str(detector))[0], precision))
    for frames, mask in windows():
        given = torch.from_numpy(frames), torch.from_numpy(mask)
        for found, wanted, exact in zip(graph(frames, mask), rounded(*given), plain(*given), strict=True):
            np.testing.assert_allclose(found, wanted.numpy(), rtol=TOLERANCE[form], atol=TOLERANCE[form])
            assert 1e-5 < abs(found - exact.numpy()).max() < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("form", ["torch_export", "onnx"])
@pytest.mark.parametrize("head", HEADS)
def test_every_head_can_be_exported(head: str, form: ExportFormat, tmp_path: Path) -> None:
    chosen: HeadConfig = HEADS[head](**TINY_HEADS[head])
    model = ModelConfig(backbone=NETWORK.backbone, dim=8, head=chosen)
    spec = SPEC.model_copy(update={"model": model})
    torch.manual_seed(0)
    save_network(str(tmp_path / "detector"), spec, spec.build(for_training=True).state_dict())
    path = export_detector(tmp_path / "detector", tmp_path / "out", form=form)
    assert_alike(load(path), tmp_path / "detector", TOLERANCE[form])
