"""What a stage fetched for its windows, summed over its log: whether videos are read in part, and in how many requests."""

import json
from collections.abc import Iterable

from tadscale.data.blocks import FetchCount, sum_counts


def fetch_metrics(log: Iterable[str | bytes]) -> dict[str, float]:
    """A stage's figures under the names that they have in MLflow.

    Args:
        log: the lines of its `log.jsonl`, taken one by one: as objects they are 6.9 kB each, and a log may have a million.
            Lines of earlier versions count nothing.

    Returns:
        `fetch/fetched_bytes` (from storage), `fetch/bytes_per_needed_byte` (1.0 would be the windows' groups of pictures
        and nothing else; what a cache had counts as fetched here), `fetch/requests_per_window`, `fetch/cached_share` (of
        the bytes), `fetch/unplanned_per_window`, `fetch/retries`, `fetch/decoded_frames` and `fetch/load_s_per_window`
        (fetching and decoding; what was remembered counts 0). Nothing of a log without a fetched byte.
    """
    total, windows = FetchCount(), 0
    for line in map(json.loads, log):
        if "fetch" in line:
            total, windows = sum_counts([total, FetchCount(**line["fetch"])]), windows + line["valid"]
    moved = total.fetched + total.cached
    if not windows or not moved or not total.needed:
        return {}
    return {
        "fetch/fetched_bytes": float(total.fetched),
        "fetch/bytes_per_needed_byte": moved / total.needed,
        "fetch/requests_per_window": total.requests / windows,
        "fetch/cached_share": total.cached / moved,
        "fetch/unplanned_per_window": total.unplanned / windows,
        "fetch/retries": float(total.retries),
        "fetch/decoded_frames": float(total.frames),
        "fetch/load_s_per_window": total.load_us / 1e6 / windows,
    }
