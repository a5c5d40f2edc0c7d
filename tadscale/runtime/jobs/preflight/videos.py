"""Videos as they lie in storage: their shards are there, some can be decoded, their flow is there."""

from collections import Counter
from collections.abc import Iterator

from tadscale.data.flow_windows import check_flow
from tadscale.data.manifest import Manifest
from tadscale.data.quarantine import DataError, QuarantineBudget
from tadscale.data.storage import list_names
from tadscale.data.windows import WindowConfig, load_window, sampled_frames
from tadscale.flow.motion import motion_channels
from tadscale.runtime.jobs.preflight.facts import Facts
from tadscale.runtime.jobs.sprites import drawn_already

SAMPLES = 3  # videos of a subset that are tried, until one can be decoded


def drawn(facts: Facts) -> Iterator[str]:
    """Where built-in videos are to lie, nothing else does."""
    if facts.job.data.sprites is not None:
        drawn_already(facts.job.data.sprites, facts.job.data.url)
    yield from ()


def shards(facts: Facts) -> Iterator[str]:
    """Videos whose shard is missing are within the budget of bad ones."""
    budget = QuarantineBudget(max_fraction=facts.job.data.quarantine_budget)
    for name, videos in _stored(facts).items():
        urls = Counter(row.url for row in videos.facts())
        folders = {url.rpartition("/")[0] for url in urls}
        there = {f"{folder}/{file}" for folder in folders for file in list_names(folder)}
        gone = [url for url in urls if url not in there]
        lost = sum(urls[url] for url in gone)
        if lost > budget.allowed(len(videos)):
            yield (
                f"{lost} of the {len(videos)} {name} videos are in shards that are not there, such as {gone[0]}; "
                f"the budget is {budget.allowed(len(videos))} (data.quarantine_budget): copy them, or index what is there"
            )


def decoding(facts: Facts) -> Iterator[str]:
    """One of the first few videos of each subset gives a window."""
    for name, videos in _stored(facts).items():
        reasons = [_undecodable(videos, index, facts.job.data.window) for index in range(min(SAMPLES, len(videos)))]
        if all(reasons):
            yield (
                f"none of the first {len(reasons)} {name} videos can be decoded, such as {reasons[0]}; `tadscale data lint "
                "--decode` looks at all"
            )


def flow(facts: Facts) -> Iterator[str]:
    """Precomputed flow is there, and fits the windows: a test video that lacks it would count against all detectors."""
    url = facts.job.motion.flow_url
    if url is None:
        return
    budget = QuarantineBudget(max_fraction=facts.job.data.quarantine_budget)
    for videos in _read(facts).values():
        check_flow(url, videos, facts.job.data.window, budget, motion_channels(facts.job.motion))
    yield from ()


def _stored(facts: Facts) -> dict[str, Manifest]:
    """The videos that are there already, by what they are for."""
    sprites = facts.job.data.sprites
    if facts.draws or sprites is not None:  # drawn by this job, and read with the rest of it
        return {}
    return _read(facts)


def _read(facts: Facts) -> dict[str, Manifest]:
    """The videos that a job reads, by what they are for."""
    videos = {"training": facts.training} if facts.modes else {}
    videos |= {"test": facts.test} if facts.evaluates else {}
    return videos | ({"validation": facts.validation} if facts.selects else {})


def _undecodable(videos: Manifest, index: int, window: WindowConfig) -> str:
    row = videos.row(index)
    valid = min(window.frames, int(sampled_frames(videos, window)[index]))
    try:
        load_window(row, 0, valid, window)
    except DataError as error:
        return f"{row.key}: {error.reason}"
    return ""
