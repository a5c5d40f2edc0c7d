"""What windows of long videos cost to fetch: what they need of the video, against all of it. Local files and S3.

    python -m benchmarks.partial_fetch [--windows 8] [--crf 23]

Videos of 10 minutes at 720p, 30 pictures a second, are made here: x264 with B-frames and a key frame every 250 pictures,
which is its default. Half a minute is encoded and its packets are repeated, since bytes and places are what counts. Windows
are of 25.6 s, tiled with a stride of half: 46 a video. Some of each video, evenly spread, are loaded as training loads them,
decoded and counted; one in the middle is compared, to the bit, with what the whole file gives.

"Needed" are the bytes of the packets in the groups of pictures that a window touches, as the demuxer lists them here: no
layout is asked. "Fetched" is all that storage sent: headers and indices, whole blocks, bridged gaps. S3 is moto on loopback.
"""

import argparse
import math
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from benchmarks.s3 import s3_bucket
from tadscale.data.blocks import FetchCount, sum_counts
from tadscale.data.fetching import WindowFetcher
from tadscale.data.manifest import Manifest
from tadscale.data.shards import VideoSample, write_shards
from tadscale.data.windows import WindowConfig, load_window, tile

WIDTH, HEIGHT, FPS, KEYINT = 1280, 720, 30, 250
ENCODED, TIMES = 4 * KEYINT, 18
WINDOW = WindowConfig(frames=256, stride_frames=128, fps=10.0, height=112, width=112)
KINDS: dict[str, tuple[str, dict[str, str]]] = {
    "mp4, index at the end": ("mp4", {}),
    "mp4, index in front": ("mp4", {"movflags": "faststart"}),
    "matroska": ("mkv", {}),
}


class Cost(NamedTuple):
    """Of windows that were loaded, together."""

    windows: int
    fetch: FetchCount
    needed: int
    """Bytes, by the demuxer's own list."""
    whole: int
    """Bytes that reading all of the video for each would have fetched."""
    layout: int
    """Bytes in the manifest."""


class Group(NamedTuple):
    """A key frame and what follows it."""

    time_s: float
    size: int


def main(argv: list[str] | None = None) -> None:
    """Measure on local files and on S3."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=8, help="of each video, evenly spread")
    parser.add_argument("--crf", type=int, default=23, help="x264's quality, which decides the bit rate")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        clip = encode(Path(folder, "clip.mp4"), arguments.crf)
        paths = [repeat(clip, Path(folder, f"{nth}.{KINDS[kind][0]}"), kind) for nth, kind in enumerate(KINDS)]
        measure("local", str(Path(folder, "shards")), paths, arguments.windows)
        with s3_bucket() as bucket:
            measure("S3", bucket.url, paths, arguments.windows)


def measure(place: str, url: str, paths: list[Path], windows: int) -> None:
    """Pack the videos at a URL, load windows of each, and say what that cost."""
    samples = (
        VideoSample(kind, path.read_bytes(), {"subset": "train", "annotations": []}, path.suffix[1:])
        for kind, path in zip(KINDS, paths, strict=True)
    )
    manifest = write_shards(samples, url, videos_per_shard=1)
    for video, path in enumerate(paths):
        row, cost = manifest.row(video), cost_of(manifest, video, groups_of(path), windows)
        mbit_s = row.video_bytes * 8e-6 / row.duration_s
        sys.stdout.write(
            f"{place:<5} {row.key:<21} {row.duration_s:.0f} s, {row.video_bytes / 1e6:.0f} MB ({mbit_s:.1f} Mbit/s), layout "
            f"{cost.layout} bytes; {cost.windows} windows: fetched / needed {cost.fetch.fetched / cost.needed:.3f}, "
            f"{cost.whole / cost.fetch.fetched:.1f} times fewer bytes an epoch than whole, "
            f"{cost.fetch.requests / cost.windows:.2f} requests a window, {cost.fetch.unplanned} unplanned\n"
        )
        sys.stdout.flush()


def cost_of(manifest: Manifest, video: int, groups: list[Group], windows: int) -> Cost:
    """Load some of a video's windows; one of them whole, too."""
    row, table = manifest.row(video), tile(manifest, WINDOW)
    mine = np.flatnonzero(table.video == video)
    chosen = mine[np.linspace(0, len(mine) - 1, min(windows, len(mine))).round().astype(int)].tolist()
    counts, needed = [], 0
    for window in chosen:
        cut = int(table.start_frames[window]), int(table.valid_frames[window]), WINDOW
        fetcher = WindowFetcher()
        in_part = load_window(row, *cut, fetcher=fetcher)
        counts.append(fetcher.count)
        needed += needed_bytes(groups, *WINDOW.span_s(*cut[:2]))
        if window == chosen[len(chosen) // 2]:
            whole = load_window(row._replace(layout=b""), *cut)
            if not np.array_equal(whole.frames, in_part.frames):
                raise AssertionError(f"window {window} of {row.key} differs from that of the whole file")
    return Cost(len(chosen), sum_counts(counts), needed, len(chosen) * row.video_bytes, len(row.layout))


def groups_of(path: Path) -> list[Group]:
    """The file's groups of pictures: the time of each key frame, and the bytes of its packets."""
    groups: list[Group] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for packet in container.demux(stream):
            if packet.size and packet.is_keyframe:
                groups.append(Group(float((packet.pts - (stream.start_time or 0)) * packet.time_base), 0))
            if packet.size:
                groups[-1] = groups[-1]._replace(size=groups[-1].size + packet.size)
    return groups


def needed_bytes(groups: list[Group], first_s: float, last_s: float) -> int:
    """Bytes of the groups that are shown from one time to another."""
    ends = [group.time_s for group in groups[1:]] + [float("inf")]
    return sum(
        group.size for group, end_s in zip(groups, ends, strict=True) if end_s > first_s and group.time_s <= last_s
    )


def encode(path: Path, crf: int) -> Path:
    """A texture that drifts under three squares, with a camera's noise: `ENCODED` pictures."""
    rng = np.random.default_rng(0)
    rough = rng.integers(40, 200, (HEIGHT // 8 + 40, WIDTH // 8 + 40, 3)).astype(np.uint8)
    texture = av.VideoFrame.from_ndarray(rough, "rgb24").reformat(WIDTH + 320, HEIGHT + 320, "rgb24").to_ndarray()
    noise = rng.normal(0, 2.0, (8, HEIGHT, WIDTH, 1)).round().astype(np.int8).view(np.uint8)  # added modulo 256
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {
            "preset": "veryfast",
            "crf": str(crf),
            "g": str(KEYINT),
            "sc_threshold": "0",
            "bf": "3",
        }
        for nth in range(ENCODED):
            top, left = (160 + round(150 * turn(nth / 80)) for turn in (math.sin, math.cos))
            picture = texture[top : top + HEIGHT, left : left + WIDTH].copy()
            for square in range(3):
                down, across = (0.45 + 0.4 * turn(nth / (40 + 17 * square)) for turn in (math.sin, math.cos))
                y, x = round(down * HEIGHT), round(across * WIDTH)
                picture[y : y + 100, x : x + 100] = 60 + 60 * square
            frame = av.VideoFrame.from_ndarray(picture + noise[nth % 8], "rgb24")
            frame.pts, frame.time_base = nth, Fraction(1, FPS)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def repeat(clip: Path, path: Path, kind: str) -> Path:
    """The clip's packets `TIMES` over, in a file of a kind."""
    with av.open(str(path), "w", options=KINDS[kind][1]) as output:
        stream = None
        for turn in range(TIMES):
            with av.open(str(clip)) as given:
                source = given.streams.video[0]
                stream = stream or output.add_stream_from_template(source)
                for packet in given.demux(source):
                    if packet.size:
                        later = round(turn * ENCODED / FPS / packet.time_base)
                        packet.pts, packet.dts = packet.pts + later, packet.dts + later
                        packet.stream = stream
                        output.mux(packet)
    return path


if __name__ == "__main__":
    main()
