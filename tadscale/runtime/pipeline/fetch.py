"""Fill packets: plan, ranged read, decode, augment. Runs in Ray Data's CPU tasks, which never import torch, or in threads
of a training worker (`embedded.py`)."""

import json
import time

import numpy as np

from tadscale.data.block_cache import CacheConfig, open_cache
from tadscale.data.fetching import WindowFetcher
from tadscale.data.flow_windows import blank_flow, load_flow
from tadscale.data.manifest import Manifest
from tadscale.data.plan import EMPTY, PlanRow
from tadscale.data.quarantine import DataError, QuarantineEntry
from tadscale.data.windows import WindowConfig, drawn_start, load_window
from tadscale.runtime.pipeline.packets import PADDED, Columns, PacketLayout, as_row, pad_to_longest
from tadscale.runtime.pipeline.window_memo import WindowMemo
from tadscale.runtime.stage.plan_spec import PlanSpec, ReadSources, open_plan


def fetch_row(
    batch: Columns,
    spec: PlanSpec,
    layout: PacketLayout,
    flow_url: str | None,
    cache: CacheConfig | None,
    read: ReadSources | None,
) -> Columns:
    """`fetch_packet` over Ray's batches of one row, whose column `packet` holds the packet's number."""
    [packet] = batch["packet"].tolist()
    return as_row(fetch_packet(packet, spec, layout, flow_url, cache, read))


def fetch_packet(
    packet: int,
    spec: PlanSpec,
    layout: PacketLayout,
    flow_url: str | None = None,
    cache: CacheConfig | None = None,
    read: ReadSources | None = None,
    memo: WindowMemo | None = None,
) -> Columns:
    """Load the windows of one packet; bytes come from the node's `cache` where it has them, and the manifests are read as
    a whole unless another process has `read` them. What the `memo` has of this process's earlier packets is not fetched.

    A window whose video is bad keeps its slot: `valid` False, zeros for frames, and its entry for the quarantine ledger
    in the column `error` (JSON, one text a window, empty where all is well). So does an empty slot, without an entry.

    Returns:
        `position` `[n]`, `window` `[n]` (its number in the plan), `valid` `[n]`, `labelled` `[n]` (False: nothing is known
        of what happens in it), `mask` `[n, T]`, `frames` `[n, T, H, W, 3]` (or features `[n, T, C]`), `segments_frames`
        `[n, N, 2]`, `labels` `[n, N]`, `error` `[n]`, `fetch` `[n, 8]` (what it took, as in `FetchCount`),
        `loaded_unix_s` `[n]` (when the packet was filled). With `flow_url`, shards of motion computed before, also `flow`:
        its pictures `[n, T, H, W, 3]` or features `[n, T, C]`.

    Raises:
        StorageError: the storage cannot be reached: a fault of the system, which no window is blamed for.
    """
    manifest, plan = open_plan(spec, read)
    slots = layout.slots(packet)
    batches = {step: plan.batch(step) for step in {step for step, _ in slots}}
    rows = [plan.row(step, slot, int(batches[step][slot])) for step, slot in slots]
    fetchers = [WindowFetcher(open_cache(cache) if cache else None) for _ in rows]
    loaded = [
        _load(row, manifest, spec.window, flow_url, fetcher, memo) for row, fetcher in zip(rows, fetchers, strict=True)
    ]
    windows = [window for window, _ in loaded]
    stacked = ("mask", "frames", "flow") if flow_url else ("mask", "frames")
    return {name: np.stack([window[name] for window in windows]) for name in stacked} | {
        "position": np.array([row.position for row in rows], np.int64),
        "window": np.array([row.window for row in rows], np.int64),
        "valid": np.array([bool(window["mask"].any()) for window in windows]),
        "labelled": np.array([row.labelled for row in rows]),
        **{name: _stack([window[name] for window in windows], fill) for name, fill in PADDED.items()},
        "error": np.array([error for _, error in loaded]),
        "fetch": np.array([fetcher.count for fetcher in fetchers], np.int64),
        "loaded_unix_s": np.full(len(rows), time.time()),
    }


def _load(
    row: PlanRow,
    manifest: Manifest,
    config: WindowConfig,
    flow_url: str | None,
    fetcher: WindowFetcher,
    memo: WindowMemo | None,
) -> tuple[Columns, str]:
    """A window's own columns, not to be written to, and an entry for the ledger if it is bad."""
    if row.window == EMPTY:
        return _blank(config, flow_url), ""
    video = manifest.row(row.video)

    def load() -> Columns:
        draw = config.augment.draw(row.draw_seed)
        start = drawn_start(video, row.start_frames, config, draw)
        cut = start, row.valid_frames, config, draw, fetcher
        with fetcher.loading(row.valid_frames * (2 if flow_url else 1)):
            columns: Columns = load_window(video, *cut)._asdict()
            return columns | ({"flow": load_flow(flow_url, video.key, *cut)} if flow_url else {})

    try:
        return load() if memo is None else memo.recall(row.window, load), ""
    except DataError as error:
        entry = QuarantineEntry(shard=video.shard, key=video.key, reason=error.reason, stage="decode")
        return _blank(config, flow_url), json.dumps(entry._asdict())


def _blank(config: WindowConfig, flow_url: str | None) -> Columns:
    """A window without a frame."""
    columns: Columns = {
        "frames": config.blank(config.frames),
        "mask": np.zeros(config.frames, bool),
        "segments_frames": np.zeros((0, 2), np.float32),
        "labels": np.zeros(0, np.int64),
    }
    return columns | ({"flow": blank_flow(flow_url, config, config.frames)} if flow_url else {})


def _stack(ragged: list[np.ndarray], fill: int) -> np.ndarray:
    """Arrays `[N_i, ...]` to `[n, N, ...]`, N the largest and at least 1 (Arrow has no empty tensors)."""
    padded = pad_to_longest([array[None] for array in ragged] + [np.zeros((1, 1, *ragged[0].shape[1:]))], fill)
    return np.concatenate(padded[:-1]).astype(ragged[0].dtype)
