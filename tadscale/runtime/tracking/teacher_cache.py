"""What became of a stage's windows in the cache of what the teacher says, summed over its log."""

import json
from collections import Counter
from collections.abc import Iterable


def teacher_cache_metrics(log: Iterable[str | bytes]) -> dict[str, float]:
    """A stage's figures under the names that they have in MLflow.

    Args:
        log: the lines of its `log.jsonl`, taken one by one; a line without a word of the cache counts nothing.

    Returns:
        `teacher_cache/hits` (windows read), `teacher_cache/made` (computed), `teacher_cache/damaged` (of those, read first
        and not what was written). Windows that a motion actor remembered are none of these. Nothing where no cache was
        asked.
    """
    total: Counter[str] = Counter()
    for line in map(json.loads, log):
        total.update(line.get("teacher_cache", {}))
    return {f"teacher_cache/{name}": float(count) for name, count in total.items()}
