"""What it costs to serve a detector: an hour of video, a live stream, and its exports.

    python -m benchmarks.serving long MODEL CLIP [--hours 1]    # peak anonymous memory, and time for a second of video
    python -m benchmarks.serving live MODEL CLIP [--minutes 5]  # latency in video time, and on the clock
    python -m benchmarks.serving exports MODEL SHARDS           # size, speed, agreement and mAP of every form and precision

MODEL is the folder of a packaged model or of a trained network (`runs/NAME/STAGE/weights`), CLIP a short video of which
the packets are repeated for as long as is asked for, SHARDS what was packed with a subset `test`. One thread; nothing is
trained, and nothing is paced: a stream is as fast as it is read.
"""

import argparse
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import av
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from tadscale.data.manifest import read_manifest
from tadscale.data.windows import read_video, tile
from tadscale.metrics.average_precision import evaluate_detections
from tadscale.metrics.tables import DetectionTable, GroundTruth
from tadscale.models.heads.base import Head, Predictions
from tadscale.models.stored_weights import Precision, store_weights
from tadscale.network import load_network
from tadscale.segments import Detection, Segment
from tadscale.serving.export import ExportFormat, WindowNetwork, export_detector
from tadscale.serving.live import LiveDetector
from tadscale.serving.live_frames import live_frames
from tadscale.serving.path import DetectionPath
from tadscale.serving.predictor import Predictor, detector_folder

SAMPLE_S = 0.02  # from one look at the memory to the next
TIOU = (0.3, 0.4, 0.5, 0.6, 0.7)


def main() -> None:
    """Run one part and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True)
    for part in (long, live, exports):
        added = parts.add_parser(part.__name__)
        added.add_argument("model", type=Path)
        added.add_argument("data", metavar="SHARDS" if part is exports else "CLIP")
        added.set_defaults(part=part)
        if part is long:
            added.add_argument("--hours", type=float, default=1.0)
        if part is exports:
            added.add_argument(
                "--in-torch", action="store_true", help="what rounding costs, without exporting anything"
            )
        if part is live:
            added.add_argument("--minutes", type=float, default=5.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    Console(width=120).print(options.part(options))


def long(options: argparse.Namespace) -> Table:
    """A minute of video and hours of it: what of memory grows."""
    predictor = Predictor.from_directory(options.model, "cpu")
    table = _table(
        "video",
        "MB on disk",
        "windows",
        "detections",
        "peak MiB (anonymous)",
        "wall s",
        "CPU s",
        "wall ms a video second",
    )
    with TemporaryDirectory() as folder:
        for seconds in (60.0, 3600 * options.hours):
            path = repeated(options.data, seconds, Path(folder, f"{seconds:.0f}.mp4"))
            with anonymous_memory() as peak_mib:
                begun, worked = time.perf_counter(), time.process_time()
                prediction = predictor.predict([path])
                wall_s, cpu_s = time.perf_counter() - begun, time.process_time() - worked
            prediction.raise_failures()
            (duration_s,) = prediction.duration_s.values()
            windows = len(tile(_Lengths(duration_s), predictor.spec.window))
            found = len(prediction.detections)
            figures = (windows, found, round(peak_mib()), f"{wall_s:.1f}", f"{cpu_s:.1f}")
            per_second = f"{1000 * wall_s / duration_s:.1f}"
            table.add_row(*map(str, (f"{duration_s:.0f} s", path.stat().st_size // 10**6, *figures, per_second)))
    return table


def live(options: argparse.Namespace) -> Table:
    """Latency of detections in time of the stream, and how long the process takes from a frame to what it makes certain."""
    predictor = Predictor.from_directory(options.model, "cpu")
    window = predictor.spec.window
    table = _table(
        "hop", "detections", "latency s: least", "median", "p95", "most", "wall ms: median", "p95", "share of time"
    )
    with TemporaryDirectory() as folder:
        path = repeated(options.data, 60 * options.minutes, Path(folder, "stream.ts"))
        for hop in sorted({window.frames // 4, window.frames // 2, window.frames}):
            detector = LiveDetector(predictor, hop_frames=hop, min_score=0.01)
            latencies, walls, spent = [], [], []
            begun = time.perf_counter()
            for count, frame in enumerate(live_frames(str(path), window)):
                came, worked = time.perf_counter(), time.process_time()
                latencies += [found.latency_s for found in detector.push(frame)]
                if (count + 1 - window.frames) % hop == 0 and count + 1 >= window.frames:
                    walls.append(1000 * (time.perf_counter() - came))
                    spent.append(1000 * (time.process_time() - worked))
            share = (time.perf_counter() - begun) / (60 * options.minutes)
            late = np.percentile(latencies or [np.nan], [0, 50, 95, 100])
            clock = [*np.percentile(walls, [50, 95]), np.median(spent)]
            table.add_row(f"{hop / window.fps:g} s", str(len(latencies)), *(f"{x:.1f}" for x in late),
                          *(f"{x:.0f}" for x in clock), f"{share:.3f}")  # fmt: skip
    return table


def exports(options: argparse.Namespace) -> Table:
    """Every form and precision against the network that was trained."""
    folder = detector_folder(options.model)
    network, spec = load_network(str(folder))
    plain = GraphNetwork(_plain(WindowNetwork(network)))
    windows, truth = _test_windows(options.data, DetectionPath.of(spec)), _truth(options.data)
    table = _table("form", "weights", "MB", "ms a window", "largest difference of a score", "average mAP, %")
    for precision in get_args(Precision):
        rounded = store_weights(load_network(str(folder))[0], precision)
        row = _scored(GraphNetwork(_plain(WindowNetwork(rounded))), plain, windows, truth, DetectionPath.of(spec))
        table.add_row("in torch", precision, "", *row)
    if options.in_torch:
        return table
    with TemporaryDirectory() as out:
        for form, precision in product(get_args(ExportFormat), get_args(Precision)):
            path = export_detector(folder, Path(out, f"{form}-{precision}"), form=form, precision=precision)
            graph = GraphNetwork(_torch_graph(path) if form == "torch_export" else _onnx_graph(path))
            row = _scored(graph, plain, windows, truth, DetectionPath.of(spec))
            table.add_row(form, precision, f"{path.stat().st_size / 1e6:.2f}", *row)
    return table


Graph = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class GraphNetwork(nn.Module):
    """An exported graph where the detection path expects a network."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph, self.head = graph, _Moments()
        self.eval()

    def detect(self, windows: Tensor, mask: Tensor) -> Predictions:
        """One window after the other: `scores` `[B, P, K]` and `segments` `[B, P, 2]`."""
        rows = [self.graph(windows[index, None], mask[index, None]) for index in range(len(windows))]
        return {
            name: torch.cat(parts) for name, parts in zip(("scores", "segments"), zip(*rows, strict=True), strict=True)
        }


class _Moments(Head):
    def forward(self, features: Tensor, mask: Tensor) -> Predictions:
        raise NotImplementedError

    def moments(self, predictions: Predictions) -> tuple[Tensor, Tensor]:
        return predictions["scores"], predictions["segments"]


def _plain(network: WindowNetwork) -> Graph:
    return lambda frames, mask: network(frames, mask)


def _torch_graph(path: Path) -> Graph:
    module = torch.export.load(str(path)).module()
    return lambda frames, mask: module(frames, mask)


def _onnx_graph(path: Path) -> Graph:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])

    def run(frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        scores, segments = session.run(["scores", "segments"], {"frames": frames.numpy(), "mask": mask.numpy()})
        return torch.from_numpy(scores), torch.from_numpy(segments)

    return run


class _TestVideo:
    """A video of the test subset: its windows, cut, and where they start."""

    def __init__(self, row: Any, path: DetectionPath) -> None:
        table = tile(_Lengths(row.duration_s), path.window)
        self.name, self.duration_s, self.starts = row.key, row.duration_s, table.start_frames.tolist()
        ((frames, mask),) = path.stream(read_video(row), table, len(table))
        self.frames, self.mask = torch.from_numpy(frames), torch.from_numpy(mask)


def _test_windows(url: str, path: DetectionPath) -> list[_TestVideo]:
    return [_TestVideo(row, path) for row in _test_rows(url)]


def _test_rows(url: str) -> list[Any]:
    manifest = read_manifest(url).subset("test")
    return [manifest.row(index) for index in range(len(manifest))]


def _truth(url: str) -> GroundTruth:
    return GroundTruth.from_segments(
        {
            row.key: [Segment(*one) for one in zip(row.labels, row.start_s, row.end_s, strict=True)]
            for row in _test_rows(url)
        }
    )


@torch.inference_mode()
def _scored(
    graph: GraphNetwork, plain: GraphNetwork, videos: list[_TestVideo], truth: GroundTruth, path: DetectionPath
) -> tuple[str, str, str]:
    """Milliseconds a window, the largest difference of a score from the trained network's, average mAP."""
    detections: list[Detection] = []
    spent_s, windows, largest = 0.0, 0, 0.0
    for video in videos:
        begun = time.perf_counter()
        predictions = graph.detect(video.frames, video.mask)
        spent_s, windows = spent_s + time.perf_counter() - begun, windows + len(video.starts)
        exact = plain.detect(video.frames, video.mask)["scores"]
        largest = max(largest, float((predictions["scores"] - exact).abs().max()))
        found = zip(video.starts, path.read(graph, predictions), strict=True)
        detections += path.merge(list(found), video=video.name, duration_s=video.duration_s)
    result = evaluate_detections(DetectionTable.from_detections(detections), truth, TIOU, ties="stable")
    return f"{1000 * spent_s / windows:.1f}", f"{largest:.1e}", f"{100 * result.average:.2f}"


def repeated(clip: str, seconds: float, path: Path) -> Path:
    """The packets of a clip again and again, with times that go on, into a container that the suffix names."""
    with av.open(str(path), "w") as out:
        with av.open(clip) as first:
            stream = out.add_stream_from_template(first.streams.best("video"))
        offset = 0.0
        while offset < seconds:
            with av.open(clip) as again:
                source = again.streams.best("video")
                packets = [packet for packet in again.demux(source) if packet.dts is not None]
                shift = round(offset / source.time_base)
                for packet in packets:
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    out.mux(packet)
                offset += float((source.duration or 0) * source.time_base)
    return path


@contextmanager
def anonymous_memory() -> Iterator[Callable[[], float]]:
    """The most anonymous memory of this process in MiB (pages of files do not count: they can be had again)."""
    ended, peak = threading.Event(), [0.0]

    def look() -> None:
        while not ended.wait(SAMPLE_S):
            status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            peak[0] = max(peak[0], int(status["RssAnon"].split()[0]) / 1024)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield lambda: peak[0]
    finally:
        ended.set()
        watcher.join()


class _Lengths:
    """As much of a manifest as tiling asks for."""

    def __init__(self, duration_s: float) -> None:
        self.duration_s = np.array([duration_s])


def _table(*headings: str) -> Table:
    table = Table()
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="left" if index == 0 else "right")
    return table


if __name__ == "__main__":
    main()
