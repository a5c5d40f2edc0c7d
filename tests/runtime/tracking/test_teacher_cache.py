"""What a run publishes of its cache of what the teacher says."""

import json

from tadscale.runtime.tracking.teacher_cache import teacher_cache_metrics


def test_figures_are_of_the_whole_log() -> None:
    lines = [{"step": 0, "teacher_cache": {"hits": 3, "made": 1, "damaged": 1}}, {"step": 1}]
    lines.append({"step": 2, "teacher_cache": {"hits": 4, "made": 0, "damaged": 0}})
    found = teacher_cache_metrics(map(json.dumps, lines))
    assert found == {"teacher_cache/hits": 7.0, "teacher_cache/made": 1.0, "teacher_cache/damaged": 1.0}


def test_a_log_without_a_word_of_it_says_nothing() -> None:
    assert teacher_cache_metrics([]) == teacher_cache_metrics([b'{"step": 0, "valid": 4}\n']) == {}
