"""The simulated data set is one that the real one could be."""

import numpy as np

from benchmarks.scale import BYTES_PER_S, GROUP_S, MEAN_S, WINDOW, Videos, fetched, layout_bytes
from tadscale.data.layout import BLOCK_BYTES, DIGEST_BYTES, VideoLayout, encode_layout
from tadscale.data.manifest import Manifest, make_manifest
from tadscale.data.plan import Plan
from tadscale.data.windows import tile


def test_rows_are_a_manifest_of_the_stated_mean() -> None:
    videos = Videos("u", 3000)
    manifest = make_manifest("u", videos)
    assert abs(manifest.duration_s.mean() - MEAN_S) < 0.1 * MEAN_S
    assert manifest.row(250).shard == "shard-000002.tar"
    assert videos[7] == videos[7]


def test_layouts_have_the_size_of_real_ones() -> None:
    seconds = 600.0
    size = int(seconds * BYTES_PER_S)
    cuts = np.linspace(65536, size, round(seconds / GROUP_S) + 1).astype(np.int64)
    groups, times = np.stack([cuts[:-1], cuts[1:]], 1), (np.arange(len(cuts) - 1) * GROUP_S * 1e6).astype(np.int64)
    digests = bytes(DIGEST_BYTES * -(-size // BLOCK_BYTES))
    real = len(encode_layout(VideoLayout(size, BLOCK_BYTES, np.array([[0, 65536]]), groups, times, digests)))
    assert abs(layout_bytes(size) - real) < 0.03 * real
    assert layout_bytes(1 << 20) == 0


def test_a_window_of_a_long_video_fetches_its_groups_and_of_a_short_one_all() -> None:
    manifest = Manifest(url="u", classes=(), rows=[Videos("u", 1)[0]._replace(duration_s=s) for s in (20.0, 1200.0)])
    windows = tile(manifest, WINDOW)
    plan = Plan(windows=windows, seed=0, global_batch=1, epochs=1, manifest_digest="m", settings_digest="s")
    assert fetched(plan, manifest.duration_s, 0) == (1, int(20 * BYTES_PER_S))
    requests, size = fetched(plan, manifest.duration_s, len(windows) // 2)
    assert requests == 2  # the head, and the groups
    assert WINDOW.frames / WINDOW.fps * BYTES_PER_S < size < 1.7 * WINDOW.frames / WINDOW.fps * BYTES_PER_S
