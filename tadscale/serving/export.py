"""A detector as a graph that needs none of this code: `torch.export` or ONNX, and a JSON file that says how to use it.

The graph is from pictures to moments, normalisation and reading of the head's predictions included. What is left to a
consumer is in `detector.json`: cutting windows, choosing the best moments, merging windows.
"""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from tadscale.errors import UserError
from tadscale.models.stored_weights import Precision, store_weights
from tadscale.network import NetworkSpec, load_network
from tadscale.weights import digest

ExportFormat = Literal["torch_export", "onnx"]
FILES: dict[ExportFormat, str] = {"torch_export": "detector.pt2", "onnx": "detector.onnx"}
SIDECAR = "detector.json"
ONNX_OPSET = 20
FOLDED_VALUES = 4096
"""Constants of at most so many values are computed ahead. Nearly all weights are larger, and rounded ones would be written
out as float32; no layer has more channels, and ONNX Runtime 1.32 refuses the zeros in place of a missing bias otherwise."""

STEPS = (
    "Sample the video: frame k is the picture on display at k / window.fps seconds, as window.height x window.width RGB. "
    "window.resize=stretch: resized without keeping the aspect ratio. crop: scaled, as displayed, until it covers both "
    "sides, in whole pixels, and the middle cut out.",
    "Cut windows of window.frames frames, one every window.stride_frames; the last one ends with the video, a shorter video "
    "gives one window. Frames that do not exist are zero, and false in the mask.",
    "Run the graph on each window: scores [1, P, K], segments [1, P, 2] in sampled frames from the window's start.",
    "Of each window take the decoding.window_top_k best pairs of a moment p and a class k with a score above 0 and of at "
    "least decoding.nms.min_score.",
    "Add the window's first frame to the segments, divide by window.fps, clip to the video, drop what is empty.",
    "Merge all windows by decoding.nms, class by class unless class_agnostic: pick the best, then soft: multiply the "
    "others' scores by exp(-tIoU^2 / sigma); hard: drop those with at least tiou; none: nothing. Repeat on what still has "
    "min_score, and keep the top_k best of the video.",
)
"""How a consumer gets from a video to detections; `tests/serving/test_export.py` follows it in numpy."""


class WindowNetwork(nn.Module):
    """What is exported: one window to its moments."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures `[1, T, H, W, 3]` uint8 (or features `[1, T, C]` float32) and which frames exist `[1, T]` bool.

        Returns:
            Scores `[1, P, K]` and segments `[1, P, 2]`, as `Head.moments` has them.
        """
        predictions = self.network.detect(frames, mask)  # type: ignore[operator]
        return self.network.head.moments(predictions)  # type: ignore[union-attr, operator]


def export_detector(
    detector: Path, out: Path, *, form: ExportFormat = "onnx", precision: Precision = "float32"
) -> Path:
    """Write a packaged detector's network as a graph, and beside it `detector.json`.

    A student comes without teacher and branch detector, as it was packaged. The graph takes one window a call: with more the
    heads' attention would fix the batch, and on a CPU they gained nothing.

    Args:
        detector: folder with the network's description and weights (see `predictor.detector_folder`).
        out: folder, made if need be.
        form: `torch_export` runs where torch is, `onnx` in ONNX Runtime and others.
        precision: how weights are stored; see `store_weights`.

    Returns:
        The graph's file.

    Raises:
        UserError: there is no detector, or no package to write ONNX with.
    """
    network, spec = load_network(str(detector))
    program = trace(store_weights(network, precision), spec)
    data = _as_onnx(program) if form == "onnx" else _as_torch(program)
    out.mkdir(parents=True, exist_ok=True)
    (out / FILES[form]).write_bytes(data)
    document = _sidecar(spec, form, precision, data, program)
    (out / SIDECAR).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return out / FILES[form]


def trace(network: nn.Module, spec: NetworkSpec) -> ExportedProgram:
    """The graph of a network in eval mode on one window."""
    frames = torch.from_numpy(spec.window.blank(spec.window.frames))[None]
    mask = torch.ones(1, spec.window.frames, dtype=torch.bool)
    with _quiet(), torch.no_grad():
        program = torch.export.export(WindowNetwork(network).eval(), (frames, mask))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # lines of our files, and where they lie on this machine
    return program


def _as_torch(program: ExportedProgram) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()


def _as_onnx(program: ExportedProgram) -> bytes:
    try:
        from onnxscript.optimizer import optimize
    except ImportError as error:
        raise UserError("ONNX is written with onnx and onnxscript: pip install 'tadscale[export]'") from error
    buffer = io.BytesIO()
    with _quiet():
        program = program.run_decompositions({torch.ops.aten.cdist.default: _distances})
        exported: Any = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=ONNX_OPSET,
            input_names=["frames", "mask"],
            output_names=["scores", "segments"],
            optimize=False,
            verbose=False,
        )
        optimize(exported.model, input_size_limit=FOLDED_VALUES, output_size_limit=FOLDED_VALUES)
        for node in exported.model.graph.all_nodes():
            node.metadata_props.clear()  # as much again as the graph
        exported.save(buffer)
    return buffer.getvalue()


def _distances(one: Tensor, other: Tensor, p: float = 2.0, mode: int | None = None) -> Tensor:
    """Euclidean distances between rows, which ONNX has no operation for."""
    assert p == 2
    return (one.unsqueeze(-2) - other.unsqueeze(-3)).square().sum(dim=-1).sqrt()


def _sidecar(
    spec: NetworkSpec, form: ExportFormat, precision: Precision, data: bytes, program: ExportedProgram
) -> dict[str, Any]:
    frames, mask = program.example_inputs[0]
    scores, segments = (list(node.meta["val"].shape) for node in program.graph.output_node().args[0])
    pictures = spec.window.features is None
    return {
        "format": 1,
        "graph": {"file": FILES[form], "form": form, "weights": precision, "sha256": digest(data)},
        "input": {
            "frames": {"shape": list(frames.shape), "type": str(frames.dtype).removeprefix("torch.")},
            "mask": {"shape": list(mask.shape), "type": "bool"},
            "normalisation": "none: RGB in 0..255, the graph normalises" if pictures else "none: features as they come",
        },
        "output": {"scores": scores, "segments": segments},
        "window": spec.window.model_dump(mode="json", exclude={"augment", "min_visible", "sampling", "background"}),
        "classes": list(spec.classes),
        "decoding": spec.inference.model_dump(mode="json"),
        "steps": list(STEPS),
        "weights_sha256": spec.weights_sha256,
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Exporters report their own progress, and warn of registrations that are no concern of ours."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
