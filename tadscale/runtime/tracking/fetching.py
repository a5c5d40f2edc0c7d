"""What a stage fetched for its windows, summed over its log: whether videos are read in part, and in how many requests."""

import json

from tadscale.data.blocks import FetchCount, sum_counts


def fetch_metrics(log: str) -> dict[str, float]:
    """A stage's figures under the names that they have in MLflow.

    Args:
        log: the text of its `log.jsonl`; lines of earlier versions count nothing.

    Returns:
        `fetch/fetched_bytes` (from storage), `fetch/bytes_per_needed_byte` (1.0 would be the windows' groups of pictures
        and nothing else; what a cache had counts as fetched here), `fetch/requests_per_window`, `fetch/cached_share` (of
        the bytes), `fetch/unplanned_per_window`, `fetch/retries`, `fetch/decoded_frames` and `fetch/load_s_per_window`
        (fetching and decoding; what was remembered counts 0). Nothing of a log without a fetched byte.
    """
    lines = [json.loads(line) for line in log.splitlines()]
    total = sum_counts(FetchCount(**line["fetch"]) for line in lines if "fetch" in line)
    windows, moved = sum(line["valid"] for line in lines if "fetch" in line), total.fetched + total.cached
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
