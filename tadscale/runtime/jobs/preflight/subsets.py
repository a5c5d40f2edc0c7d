"""Subsets: they exist, and hold what their stage needs. A loss of nothing over a whole run is an error, not a result."""

from collections.abc import Iterator

import numpy as np

from tadscale.data.manifest import Manifest
from tadscale.data.source import training_windows
from tadscale.data.suspicions import spelling
from tadscale.data.windows import WindowConfig, clip_segments
from tadscale.errors import nearest
from tadscale.runtime.jobs.preflight.facts import Facts


def exist(facts: Facts) -> Iterator[str]:
    """The subsets that are named are in the data, under that very name."""
    data = facts.job.data
    # Where sources are set they say what is trained on, and opening them says what is not there.
    named = {"data.train_subset": data.train_subset} if facts.modes and not data.sources else {}
    named |= {"data.test_subset": data.test_subset} if facts.evaluates else {}
    named |= {"data.validation_subset": data.validation_subset} if facts.selects else {}
    known = set(facts.data.column("subset").tolist())
    for setting, subset in named.items():
        if subset not in known:
            yield f"{setting}: {data.url} has no video of subset {subset!r}; {nearest(subset, known)}"


def segments(facts: Facts) -> Iterator[str]:
    """There is something to learn in training, to choose an epoch by, and to be scored on."""
    data = facts.job.data
    if facts.learns_from_truth and not _any_seen(_if_there(facts, "labelled_training"), data.window, facts.job.seed):
        yield (
            f"no annotated segment of the training videos ({_training(facts)}) is in any window: nothing would be learned, "
            "at a loss near 0; name another subset, or index the shards with their annotations"
        )
    test = _if_there(facts, "test") if facts.evaluates else None
    if test is not None and not any(row.labels for row in test.facts()):
        yield (
            f"subset {data.test_subset!r} of {data.url} has no annotated segment: there is nothing to score on; name "
            "another data.test_subset, or index the shards with their annotations"
        )
    validation = _if_there(facts, "validation") if facts.selects else None
    if validation is not None and not any(row.labels for row in validation.facts()):
        yield (
            f"subset {data.validation_subset!r} of {data.url} has no annotated segment: every epoch would score 0 "
            "on it, and evaluate.select=validation chooses one by that; name another data.validation_subset, or set "
            "evaluate.select=last"
        )


def windows(facts: Facts) -> Iterator[str]:
    """Every annotated training video gives a window: what is never seen is not trained on, whoever lists it."""
    job = facts.job
    videos = _if_there(facts, "labelled_training") if facts.learns_from_truth else None
    if videos is None or job.data.window.stride_frames > job.data.window.frames:  # told by other checks
        return
    unseen = np.ones(len(videos), np.bool_)
    unseen[training_windows(videos, job.data.window, job.seed).video] = False
    if unseen.any():
        yield (
            f"{int(unseen.sum())} of the {len(videos)} training videos ({_training(facts)}) have no window, such as "
            f"{videos.row(int(np.flatnonzero(unseen)[0])).key!r}: no segment is in them, and data.window.background is "
            f"{job.data.window.background:g}; raise it, leave those videos out of the subset, or set "
            "data.window.sampling=tile"
        )


def classes(facts: Facts) -> Iterator[str]:
    """What is trained and what is scored have the same classes, of which there is at least one."""
    if facts.learns_from_truth and not facts.training.classes:
        yield f"the training videos ({_training(facts)}) have no class: there is nothing to tell apart"
    if facts.evaluates and facts.modes and facts.training.classes != facts.data.classes:
        other = sorted(set(facts.training.classes) ^ set(facts.data.classes))
        yield (
            f"the sources have {len(facts.training.classes)} classes and data.url has {len(facts.data.classes)}; not in "
            f"both: {', '.join(other[:5])}: a detector is scored on the classes that it was trained for; label them alike"
        )
    if facts.evaluates and facts.learns_from_truth:
        yield from _respelt(_if_there(facts, "labelled_training"), _if_there(facts, "test"))


def labels_in(videos: Manifest) -> set[str]:
    """The classes that have a segment there; the manifest's own are those of all subsets."""
    return {label for row in videos.facts() for label in row.labels}


def _respelt(training: Manifest | None, test: Manifest | None) -> Iterator[str]:
    """No class is spelt one way where it is trained and another way where it is scored: it would never be found."""
    if training is None or test is None:
        return
    taught, wanted = labels_in(training), labels_in(test)
    spelt = {spelling(label): label for label in taught}
    pairs = [(label, spelt[spelling(label)]) for label in sorted(wanted - taught) if spelling(label) in spelt]
    if pairs:
        label, other = pairs[0]
        yield (
            f"{len(pairs)} of {len(wanted)} classes of test are spelt otherwise in training, and are others so, such as "
            f"{label!r} ({other!r}): label them alike, and pack the videos again"
        )


def _if_there(facts: Facts, which: str) -> Manifest | None:
    """Some of the videos, or None where there are none: of that `exist` tells."""
    try:
        videos: Manifest = getattr(facts, which)
    except ValueError:
        return None
    return videos


def _any_seen(videos: Manifest | None, window: WindowConfig, seed: int) -> bool:
    if videos is None or window.stride_frames > window.frames:  # told by other checks
        return True
    table = training_windows(videos, window, seed)
    for video, start, valid in zip(
        table.video.tolist(), table.start_frames.tolist(), table.valid_frames.tolist(), strict=True
    ):
        row = videos.row(video)
        segments_frames = window.to_frames(row.segments_s) - start
        if row.labels and clip_segments(segments_frames, valid, window.min_visible)[1].any():
            return True
    return False


def _training(facts: Facts) -> str:
    return ", ".join(f"subset {source.subset!r} of {source.url}" for source in facts.job.data.training_sources)
