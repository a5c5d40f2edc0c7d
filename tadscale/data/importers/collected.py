"""What the files of a data set say, put together as they are read; nothing is corrected yet."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from tadscale.data.annotations import AnnotatedVideo, normal_subset
from tadscale.data.keys import same_key
from tadscale.errors import UserError
from tadscale.segments import Segment

WHOLE = math.inf
"""End of a segment that lasts as long as its video."""


@dataclass
class Collected:
    """Videos by key, in the order of the files, and what is to be said of them."""

    published_classes: int
    """How many classes the data set has as published; the files at hand may hold fewer."""
    classes: tuple[str, ...] = ()
    """From a class list of the data set, in its order; empty where there is none, and the labels in use count."""
    notes: list[str] = field(default_factory=list)
    """Remarks on the data set as a whole."""
    corrections: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """What was corrected or left out, by kind, an entry each."""
    _videos: dict[str, AnnotatedVideo] = field(default_factory=dict)
    _segments: dict[str, list[Segment]] = field(default_factory=dict)

    def __contains__(self, video: str) -> bool:
        return same_key(video) in self._videos

    def declare(
        self, video: str, subset: str, place: str, duration_s: float | None = None, fps: float | None = None
    ) -> None:
        """A video that there is, with or without segments; it may be declared again.

        Args:
            video: as the files call it.
            subset: as published.
            place: file and line, for the error.
            duration_s: its length, where the files state it.
            fps: its frames a second, likewise.

        Raises:
            UserError: it is in another subset already.
        """
        subset, key = normal_subset(subset), same_key(video)
        known = self._videos.setdefault(
            key, AnnotatedVideo(video=key, subset=subset, duration_s=duration_s, segments=(), fps=fps)
        )
        self._segments.setdefault(key, [])
        if known.subset != subset:
            raise UserError(
                f"{place}: {video} is in the subset {subset!r} here and in {known.subset!r} before: files of two "
                "versions of the data set, or one video renamed? Give the files of one version"
            )

    def add(self, video: str, segment: Segment) -> None:
        """A segment of a video that was declared."""
        self._segments[same_key(video)].append(segment)

    def keep(self, video: AnnotatedVideo, segments: Iterable[Segment]) -> None:
        """Keep these alone of a video's segments; where there are none, leave the video out."""
        self._segments[video.video] = list(segments)
        if not self._segments[video.video]:
            del self._videos[video.video], self._segments[video.video]

    def videos(self) -> Iterator[AnnotatedVideo]:
        """All videos with their segments, as the files have them."""
        for key, video in self._videos.items():
            yield replace(video, segments=tuple(self._segments[key]))
