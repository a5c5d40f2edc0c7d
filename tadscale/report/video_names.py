"""Videos that detections spell otherwise than the ground truth: as the file that packing would take for them.

`tadscale data pack` takes `walk/v_1.mp4` for the video that the annotations call `1`; detection in the same folder knows no
annotations, and calls it `walk/v_1`.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from tadscale.data.keys import spellings
from tadscale.metrics.tables import DetectionTable, index_of


def respelt(
    table: DetectionTable, videos: Collection[str], known: Collection[str]
) -> tuple[DetectionTable, dict[str, str]]:
    """The detections with the ground truth's names for their videos, as far as it is certain which is meant.

    It is where one of a name's `spellings` is a video of the ground truth, no other is, and no other video of the detections
    is taken for it or has that name and detections.

    Args:
        table: detections.
        videos: of the subset.
        known: names that are right as they are: all of the ground-truth file.

    Returns:
        The detections, and by each name that was changed the one that it was changed to.
    """
    taken = {table.videos[video] for video in table.video.tolist()}
    meant = {name: _spelt(name, videos) for name in table.videos if name not in known}
    times = Counter(target for targets in meant.values() for target in targets)
    names = {
        name: targets[0]
        for name, targets in meant.items()
        if len(targets) == 1 and times[targets[0]] == 1 and targets[0] not in taken
    }
    if not names:
        return table, names
    changed = tuple(dict.fromkeys(names.get(name, name) for name in table.videos))
    place = index_of([names.get(name, name) for name in table.videos], changed)  # [videos]
    return replace(table, videos=changed, video=place[table.video]), names


def twins(names: Iterable[str], videos: Collection[str]) -> dict[str, str]:
    """By each of these names the first video of the ground truth that one of them may be another spelling of."""
    by_spelling: Mapping[str, list[str]] = defaultdict(list)
    for video in videos:
        for spelling in spellings(video):
            by_spelling[spelling].append(video)
    near = {name: [*_spelt(name, videos), *by_spelling[name]] for name in names}
    return {name: found[0] for name, found in near.items() if found}


def _spelt(name: str, videos: Collection[str]) -> list[str]:
    return [spelling for spelling in dict.fromkeys(spellings(name)) if spelling in videos]
