"""Ego4D Moments Queries (Grauman et al., CVPR 2022): moments in clips of first-person videos."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from tadscale.data.annotations import read_document
from tadscale.data.importers.base import Importer
from tadscale.data.importers.collected import Collected
from tadscale.data.importers.files import matching, seconds
from tadscale.errors import UserError
from tadscale.segments import Segment

MOMENTS = re.compile(r"moments_(train|val|test|test_unannotated)\.json")
NOT_PRIMARY = "labels that are not primary, left out"
NONE_PRIMARY = "clips without a primary label, left out"


class _Object(NamedTuple):
    """An object of the file, with its place in it."""

    place: str
    content: Mapping[str, Any]

    def value(self, key: str) -> Any:
        """What stands under a key, which the published form has."""
        if key not in self.content:
            raise UserError(
                f"{self.place} has no {key!r}: expected the published form of moments_*.json; fetch it again"
            )
        return self.content[key]

    def seconds(self, key: str) -> float:
        return seconds(str(self.value(key)), f"{self.place}.{key}")

    def objects(self, key: str) -> "Iterator[_Object]":
        """The objects in the list under a key; none where it is null, as in files without annotations."""
        entries = self.value(key) if key != "annotations" else self.content.get(key)
        for index, entry in enumerate(entries or ()):
            place = f"{self.place}.{key}[{index}]"
            if not isinstance(entry, Mapping):
                raise UserError(f"{place} is {str(entry)[:40]!r}, expected an object; fetch the file again")
            yield _Object(place, entry)


class Ego4dMqImporter(Importer):
    """Ego4D Moments Queries: moments_train.json, moments_val.json; 110 classes; keys are those of clips."""

    name: Literal["ego4d_mq"] = "ego4d_mq"
    primary_only: bool = True
    """Take the labels that are marked primary alone: the 110 classes of the benchmark."""

    def read(self, files: Sequence[str]) -> Collected:
        """See `Importer`. A video of ours is a clip (`CLIP_UID.mp4`), and times count from its start. The segments of all
        annotators of a clip are taken together."""
        collected = Collected(110)
        for url, _ in matching(files, MOMENTS, "moments_train.json, moments_val.json"):
            document = read_document(url).content
            if not isinstance(document, Mapping):
                raise UserError(f'{url} has no list "videos" at its top level: give moments_*.json as it was published')
            for video in _Object(url, document).objects("videos"):
                for clip in video.objects("clips"):
                    self._take(clip, str(video.value("split")), collected)
        return collected

    def _take(self, clip: _Object, subset: str, collected: Collected) -> None:
        uid, start_s = str(clip.value("clip_uid")), clip.seconds("video_start_sec")
        labels = [entry for annotator in clip.objects("annotations") for entry in annotator.objects("labels")]
        kept = [entry for entry in labels if entry.value("primary") or not self.primary_only]
        others = [entry for entry in labels if self.primary_only and not entry.value("primary")]
        collected.corrections[NOT_PRIMARY] += [f"{uid}: {str(entry.value('label'))!r}" for entry in others]
        if labels and not kept:  # as in the authors' conversion: something happens in it, and it is no background
            collected.corrections[NONE_PRIMARY].append(uid)
            return
        collected.declare(uid, subset, clip.place, clip.seconds("video_end_sec") - start_s)
        for entry in kept:
            # Rounded to a microsecond: the difference of two times is off by a few bits.
            start, end = (round(entry.seconds(key) - start_s, 6) for key in ("video_start_time", "video_end_time"))
            collected.add(uid, Segment(str(entry.value("label")), start, end))
