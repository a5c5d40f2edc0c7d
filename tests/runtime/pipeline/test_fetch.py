"""Filling packets: the plan's windows, empty slots, and bad videos."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tadscale.data.augment import Augment
from tadscale.data.block_cache import CacheConfig
from tadscale.data.blocks import FetchCount
from tadscale.data.flow_shards import write_flow
from tadscale.data.flow_windows import load_flow
from tadscale.data.manifest import read_manifest
from tadscale.data.plan import EMPTY
from tadscale.data.quarantine import QuarantineLedger
from tadscale.data.source import Source
from tadscale.data.storage import StorageError
from tadscale.data.windows import drawn_start, load_window
from tadscale.flow.motion import MotionConfig, build_motion
from tadscale.runtime.pipeline.fetch import fetch_packet
from tadscale.runtime.pipeline.packets import PacketLayout
from tadscale.runtime.stage.plan_spec import PlanSpec, ReadSources, open_plan
from tests.runtime.conftest import WINDOW

LOAD_US = FetchCount._fields.index("load_us")

MEASURED = {"fetch", "loaded_unix_s", "motion_us", "motion_unix_s"}
"""Columns that say what it took: of no two packets alike."""


def layout_of(plan, windows: int) -> PacketLayout:
    return PacketLayout(
        first_step=0, total_steps=plan.total_steps, global_batch=plan.global_batch, world_size=1, windows=windows
    )


def damage(folder: Path, key: str, data_url: str) -> str:
    """A copy of the data with one video overwritten; returns its URL."""
    shutil.copytree(data_url, folder)
    row = next(row for row in read_manifest(str(folder)).rows if row.key == key)
    with open(row.url, "r+b") as file:
        file.seek(row.video_offset)
        file.write(b"\0" * row.video_bytes)
    return str(folder)


def plan_of(data_url: str):
    return PlanSpec(sources=(Source(url=data_url),), window=WINDOW, seed=0, epochs=1, global_batch=4)


def test_a_process_that_is_told_what_another_read_fetches_the_same_and_no_other_data(sprites):
    spec = plan_of(sprites)
    manifest, plan = open_plan(spec)
    read = ReadSources.of(manifest)
    told = open_plan(spec, read)[1]
    assert told.digest == plan.digest
    layout = layout_of(plan, 4)
    itself, other = fetch_packet(0, spec, layout), fetch_packet(0, spec, layout, read=read)
    assert all(np.array_equal(itself[name], other[name]) for name in itself.keys() - MEASURED)
    assert np.array_equal(itself["fetch"][:, :LOAD_US], other["fetch"][:, :LOAD_US])
    with pytest.raises(ValueError, match="not the one that this run began with"):
        open_plan(spec, read.model_copy(update={"stated": ("0" * 64,)}))


def test_a_packet_holds_the_windows_of_the_plan(sprites):
    spec = plan_of(sprites)
    manifest, plan = open_plan(spec)
    columns = fetch_packet(1, spec, layout_of(plan, 4))
    assert columns["position"].tolist() == [4, 5, 6, 7]
    assert columns["valid"].all()
    assert columns["labelled"].all()
    counts = [FetchCount(*count) for count in columns["fetch"].tolist()]
    assert [count.frames for count in counts] == columns["mask"].sum(1).tolist()
    assert all(0 < count.load_us < 60e6 for count in counts)
    assert np.ptp(columns["loaded_unix_s"]) == 0
    assert 0 <= time.time() - columns["loaded_unix_s"][0] < 60
    for nth, window in enumerate(plan.batch(1).tolist()):
        row = plan.row(1, nth, window)
        expected = load_window(manifest.row(row.video), row.start_frames, row.valid_frames, WINDOW)
        assert np.array_equal(columns["frames"][nth], expected.frames)
        assert np.array_equal(columns["mask"][nth], expected.mask)
        count = len(expected.labels)
        assert columns["labels"][nth, :count].tolist() == expected.labels.tolist()
        assert (columns["labels"][nth, count:] == -1).all()
        assert np.array_equal(columns["segments_frames"][nth, :count], expected.segments_frames)


def test_shifted_windows_begin_elsewhere_each_epoch_and_their_segments_with_them(sprites):
    window = WINDOW.model_copy(update={"stride_frames": 8, "frames": 16, "augment": Augment(shift=0.5)})
    spec = plan_of(sprites).model_copy(update={"window": window, "epochs": 3})
    manifest, plan = open_plan(spec)
    starts: dict[int, set[int]] = {}
    for step in range(plan.total_steps):
        columns = fetch_packet(step, spec, layout_of(plan, 4))
        for nth, id_ in enumerate(plan.batch(step).tolist()):
            if id_ == EMPTY:
                continue
            row = plan.row(step, nth, id_)
            video = manifest.row(row.video)
            start = drawn_start(video, row.start_frames, window, window.augment.draw(row.draw_seed))
            expected = load_window(video, start, row.valid_frames, window)
            assert np.array_equal(columns["frames"][nth], expected.frames)
            count = len(expected.labels)
            assert np.array_equal(columns["segments_frames"][nth, :count], expected.segments_frames)
            assert (columns["labels"][nth, count:] == -1).all()
            starts.setdefault(id_, set()).add(start)
    assert sum(len(some) > 1 for some in starts.values()) > len(starts) / 2


def test_windows_of_an_unlabelled_source_come_without_ground_truth_and_say_so(sprites):
    sources = Source(url=sprites), Source(url=sprites, subset="test", labelled=False, share=0.25)
    spec = PlanSpec(sources=sources, window=WINDOW, seed=0, epochs=1, global_batch=4)
    _, plan = open_plan(spec)
    columns = [fetch_packet(step, spec, layout_of(plan, 4)) for step in range(plan.total_steps)]
    labelled = np.stack([some["labelled"] for some in columns])
    assert ((~labelled).sum(1) == 1).all()
    assert np.stack([some["valid"] for some in columns])[~labelled].all()
    assert all((some["labels"][~some["labelled"]] == -1).all() for some in columns)
    assert any((some["labels"][some["labelled"]] >= 0).any() for some in columns)


def test_precomputed_flow_travels_beside_the_frames(sprites, tmp_path):
    spec, flow_url = plan_of(sprites), str(tmp_path / "flow")
    manifest, plan = open_plan(spec)
    some = replace(manifest, rows=manifest.rows[1:])  # the first video has none
    write_flow(some, flow_url, build_motion(MotionConfig(name="dis")), WINDOW, device="cpu", ledger=QuarantineLedger())
    for step in range(plan.total_steps):
        columns = fetch_packet(step, spec, layout_of(plan, 4), flow_url)
        assert columns["flow"].shape == columns["frames"].shape
        for nth, window in enumerate(plan.batch(step).tolist()):
            row = plan.row(step, nth, window)
            if window < 0 or row.video == 0:
                assert not columns["valid"][nth]
                assert ("no flow of this key" in str(columns["error"][nth])) == (row.video == 0)
                continue
            key = manifest.row(row.video).key
            expected = load_flow(flow_url, key, row.start_frames, row.valid_frames, WINDOW)
            assert np.array_equal(columns["flow"][nth], expected)
            assert FetchCount(*columns["fetch"][nth].tolist()).frames == 2 * row.valid_frames


def test_empty_slots_are_masked_and_blame_nobody(sprites):
    spec = plan_of(sprites)
    _, plan = open_plan(spec)
    columns = fetch_packet(plan.total_steps - 1, spec, layout_of(plan, 4))
    empty = plan.batch(plan.total_steps - 1) < 0
    assert empty.any()
    assert np.array_equal(columns["valid"], ~empty)
    assert not columns["frames"][empty].any()
    assert not columns["mask"][empty].any()
    assert set(columns["error"].tolist()) == {""}
    assert not columns["fetch"][empty].any()


def test_a_bad_video_keeps_its_slots_and_is_named(sprites, tmp_path):
    spec = plan_of(damage(tmp_path / "bad", "train-00003", sprites))
    manifest, plan = open_plan(spec)
    layout = layout_of(plan, 4)
    bad = [row.key for row in manifest.rows].index("train-00003")
    for step in range(plan.total_steps):
        columns = fetch_packet(step, spec, layout)
        for nth, window in enumerate(plan.batch(step).tolist()):
            is_bad = window >= 0 and plan.windows.video[window] == bad
            assert columns["valid"][nth] == (window >= 0 and not is_bad)
            assert bool(columns["error"][nth]) == is_bad
            if is_bad:
                entry = json.loads(str(columns["error"][nth]))
                assert entry["key"] == "train-00003"
                assert "digest" in entry["reason"]


def test_what_was_fetched_travels_beside_the_windows_and_a_cache_answers_the_second_time(sprites, tmp_path):
    spec = plan_of(sprites)
    manifest, plan = open_plan(spec)
    layout, cache = layout_of(plan, 4), CacheConfig(path=str(tmp_path / "cache"), bytes=16 << 20)
    first, again = (fetch_packet(plan.total_steps - 1, spec, layout, cache=cache) for _ in range(2))
    for nth, window in enumerate(plan.batch(plan.total_steps - 1).tolist()):
        size = manifest.row(int(plan.windows.video[window])).video_bytes if window >= 0 else 0
        counts = [FetchCount(*columns["fetch"][nth].tolist()) for columns in (first, again)]
        assert all((count.fetched + count.cached, count.needed) == (size, size) for count in counts)
        assert counts[0].requests == bool(counts[0].fetched)
        assert counts[1] == FetchCount(cached=size, needed=size, frames=counts[0].frames, load_us=counts[1].load_us)
    assert sum(first["fetch"][:, 0]) > 0
    assert all(np.array_equal(first[name], again[name]) for name in first.keys() - MEASURED)


def test_storage_out_of_reach_is_no_bad_video(sprites, tmp_path):
    shutil.copytree(sprites, tmp_path / "gone")
    spec = plan_of(str(tmp_path / "gone"))
    _, plan = open_plan(spec)
    for shard in (tmp_path / "gone").glob("*.tar"):
        shard.unlink()
    with pytest.raises(StorageError):
        fetch_packet(0, spec, layout_of(plan, 4))


def test_the_fetching_processes_do_without_torch():
    import subprocess
    import sys

    modules = "tadscale.runtime.pipeline.dataset, tadscale.runtime.training.monitor"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
