"""What is given out when: against scripted windows, and against a reference that remembers everything."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tadscale.data.features import FeatureRows
from tadscale.metrics.nms import NmsConfig
from tadscale.models.heads.base import WindowDetections
from tadscale.network import InferenceConfig, NetworkSpec
from tadscale.serving.live import LiveDetection, LiveDetector
from tests.serving.tiny import SPEC

LENGTH, HOP, FPS = SPEC.window.frames, SPEC.window.stride_frames, SPEC.window.fps  # 16, 8, 10
FRAME = np.zeros((32, 32, 3), np.uint8)
Row = tuple[float, float, float, int]  # start and end in frames of the stream, score, class


def spec(**nms) -> NetworkSpec:
    return SPEC.model_copy(update={"inference": InferenceConfig(nms=NmsConfig(**{"method": "hard", **nms}))})


class Scripted:
    """Finds what the script has for the window's place in the stream."""

    def __init__(self, script: Sequence[Sequence[Row]], spec: NetworkSpec, hop: int = HOP) -> None:
        self.spec, self.script, self.hop = spec, script, hop
        self.masks: list[list[bool]] = []

    def detect_windows(self, windows: NDArray, mask: NDArray[np.bool_]) -> list[WindowDetections]:
        start = len(self.masks) * self.hop
        rows = torch.tensor([row[:3] for row in self.script[len(self.masks)]], dtype=torch.float64).reshape(-1, 3)
        labels = torch.tensor([row[3] for row in self.script[len(self.masks)]], dtype=torch.int64)
        self.masks.append(mask[0].tolist())
        return [WindowDetections((rows[:, :2] - start).float(), rows[:, 2].float(), labels)]


def run(detector: LiveDetector, frames: int) -> dict[int, list[LiveDetection]]:
    """What came after how many frames; the end of the stream counts as one more."""
    given = {count: detector.push(FRAME) for count in range(1, frames + 1)}
    return {count: rows for count, rows in {**given, frames + 1: detector.finish()}.items() if rows}


def test_a_detection_is_given_once_nothing_can_change_it() -> None:
    script: list[list[Row]] = [[(2, 7, 0.9, 0), (3, 9, 0.8, 1)], [(9, 12, 0.7, 0)], []]
    given = run(LiveDetector(Scripted(script, spec())), 32)
    assert list(given) == [16, 24]
    (first,) = given[16]
    assert (first.label, first.start_s, first.end_s) == ("jump", 0.2, pytest.approx(0.7))
    assert first.seen_s == 1.6 and first.latency_s == pytest.approx(0.9)
    assert [(row.label, row.end_s) for row in given[24]] == [("run", 0.9), ("jump", 1.2)]


def test_what_a_later_window_finds_better_is_given_in_its_place() -> None:
    script: list[list[Row]] = [[(6, 12, 0.5, 0)], [(8, 12, 0.9, 0)]]
    given = run(LiveDetector(Scripted(script, spec())), 24)
    assert list(given) == [24] and [row.score for row in given[24]] == [pytest.approx(0.9)]


def test_a_window_speaks_of_its_own_frames_alone() -> None:
    """The second window's find would begin before what was given out ends."""
    script: list[list[Row]] = [[(4, 8, 0.6, 0)], [(4, 10, 0.9, 0)]]
    given = run(LiveDetector(Scripted(script, spec())), 24)
    assert [(row.start_s, row.end_s) for row in given[16] + given[24]] == [(0.4, 0.8), (0.8, 1.0)]


def test_the_end_of_the_stream_decides_the_rest_and_pads_the_last_window() -> None:
    detector = Scripted([[(2, 12, 0.9, 0)], [(9, 20, 0.8, 1)]], spec())
    given = run(LiveDetector(detector), 20)
    assert list(given) == [21] and [row.end_s for row in given[21]] == [1.2, 2.0]
    assert detector.masks == [[True] * 16, [True] * 12 + [False] * 4]
    short = Scripted([[(1, 3, 0.9, 0)]], spec())
    assert [row.end_s for row in run(LiveDetector(short), 5)[6]] == [0.3]
    assert short.masks == [[True] * 5 + [False] * 11]
    assert LiveDetector(short).finish() == []


def test_weak_detections_stay_out() -> None:
    script: list[list[Row]] = [[(2, 7, 0.09, 0), (2, 7, 0.11, 1)], []]
    assert [row.label for row in run(LiveDetector(Scripted(script, spec())), 16)[16]] == ["run"]
    every = run(LiveDetector(Scripted(script, spec()), min_score=0.0), 16)
    assert [row.label for row in every[16]] == ["run", "jump"]


@pytest.mark.parametrize("method", ["hard", "soft", "none"])
@pytest.mark.parametrize("hop", [3, 8, 16])
def test_forgetting_changes_nothing(method: str, hop: int) -> None:
    """Against a reference that suppresses all that was ever found again for every window, one pick after the other."""
    generator = np.random.default_rng(hop)
    frames = LENGTH + 30 * hop
    script: list[list[Row]] = []
    for start in range(0, frames - LENGTH + 1, hop):
        places = start + generator.uniform(-4, LENGTH + 4, (6, 2))
        rows = zip(np.sort(places, axis=1).tolist(), generator.uniform(0.05, 1, 6), [0, 1] * 3, strict=True)
        script.append([(*place, score, label) for place, score, label in rows])
    network = spec(method=method, sigma=0.3, tiou=0.3, min_score=0.1)
    given = run(LiveDetector(Scripted(script, network, hop), hop_frames=hop), frames)
    wanted = reference(script, hop, frames, network.inference.nms)
    got = [(row.label, row.start_s, row.end_s, row.score) for rows in given.values() for row in rows]
    assert len(got) > 20 and len(got) == len(set(got))
    assert [row[0] for row in got] == [row[0] for row in wanted]
    np.testing.assert_allclose([row[1:] for row in got], [row[1:] for row in wanted], atol=1e-5)
    for row in (row for rows in list(given.values())[:-1] for row in rows):
        assert (LENGTH - hop) / FPS - 1e-6 <= row.latency_s < LENGTH / FPS


def reference(script: list[list[Row]], hop: int, frames: int, nms: NmsConfig) -> list[tuple]:
    found: list[Row] = []
    decided: set[int] = set()
    given = []
    for index, rows in enumerate(script):
        start = index * hop
        found += [(max(a, start), min(b, start + LENGTH), score, label) for a, b, score, label in rows]
        for horizon in [start + hop] + [np.inf] * (index == len(script) - 1):
            kept = picks(found, nms)
            certain = sorted(
                (found[i][1], -score, i) for i, score in kept if found[i][1] <= horizon and i not in decided
            )
            given += [(SPEC.classes[found[i][3]], found[i][0] / FPS, end / FPS, -s) for end, s, i in certain]
            decided |= {i for i, row in enumerate(found) if row[1] <= horizon}
    return given


def picks(rows: list[Row], nms: NmsConfig) -> list[tuple[int, float]]:
    left = {i: row[2] for i, row in enumerate(rows) if row[1] > row[0]}
    kept = []
    while left:
        best = max(left, key=lambda i: left[i])
        score = left.pop(best)
        if score < nms.min_score:
            break
        kept.append((best, score))
        for i in list(left):
            if nms.method != "none" and rows[i][3] == rows[best][3]:
                tiou = overlap(rows[i], rows[best])
                if nms.method == "soft":
                    left[i] *= np.exp(-(tiou**2) / nms.sigma)
                elif tiou >= nms.tiou:
                    del left[i]
    return kept


def overlap(one: Row, other: Row) -> float:
    common = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    return common / (one[1] - one[0] + other[1] - other[0] - common)


def test_memory_does_not_grow_with_the_stream() -> None:
    rows: list[Row] = [(0, 0, 0.5, 0)]

    class Everywhere(Scripted):
        def detect_windows(self, windows: NDArray, mask: NDArray[np.bool_]) -> list[WindowDetections]:
            segments = torch.tensor([[1.0, 3.0], [2.0, 15.0]])
            return [WindowDetections(segments, torch.tensor([0.9, 0.8]), torch.tensor([0, 1]))]

    detector = LiveDetector(Everywhere([rows], spec()))
    sizes = []
    for _ in range(50 * HOP):
        detector.push(FRAME)
        sizes.append(len(detector._found.scores))
    assert max(sizes[-10 * HOP :]) == max(sizes[: 10 * HOP]) <= 16


@pytest.mark.parametrize("hop", [0, 17])
def test_a_hop_that_leaves_frames_out_is_refused(hop: int) -> None:
    with pytest.raises(ValueError, match="must be 1 to that many"):
        LiveDetector(Scripted([], spec()), hop_frames=hop)


def test_a_model_that_reads_features_is_refused() -> None:
    rows = FeatureRows(channels=4, stride=2, offset=0.0, video_fps=20.0)
    window = SPEC.window.model_copy(update={"features": rows})
    with pytest.raises(ValueError, match="reads features"):
        LiveDetector(Scripted([], SPEC.model_copy(update={"window": window})))
