"""What a run publishes of its fetching."""

import json
import tracemalloc

import pytest

from tadscale.data.blocks import FetchCount
from tadscale.runtime.tracking.fetching import fetch_metrics


def line(valid: int, fetched: int, cached: int, needed: int, requests: int, unplanned: int) -> str:
    counts = {"fetched": fetched, "cached": cached, "needed": needed, "requests": requests, "unplanned": unplanned}
    return json.dumps({"step": 0, "valid": valid, "fetch": counts})


def test_figures_are_of_the_whole_log() -> None:
    log = [line(4, 900, 100, 800, 8, 1), line(4, 300, 700, 800, 4, 0), '{"step": 0, "valid": 4}']
    log.append(json.dumps({"valid": 2, "fetch": FetchCount(retries=3, frames=64, load_us=500_000)._asdict()}))
    assert fetch_metrics(log) == pytest.approx(
        {
            "fetch/fetched_bytes": 1200,
            "fetch/bytes_per_needed_byte": 1.25,
            "fetch/requests_per_window": 1.2,
            "fetch/cached_share": 0.4,
            "fetch/unplanned_per_window": 0.1,
            "fetch/retries": 3,  # lines of earlier versions have none of these three
            "fetch/decoded_frames": 64,
            "fetch/load_s_per_window": 0.05,
        }
    )


def test_a_log_without_a_word_of_it_says_nothing() -> None:
    assert fetch_metrics([]) == fetch_metrics([b'{"step": 0, "valid": 4}\n']) == {}


def test_a_long_log_is_never_held_whole() -> None:
    tracemalloc.start()
    try:
        fetch_metrics(line(4, 900, 100, 800, 8, step) for step in range(5000))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000  # a list of what its lines say takes 4.5 MB
    finally:
        tracemalloc.stop()
