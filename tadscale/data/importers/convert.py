"""From a data set's own files to one ActivityNet JSON: collected, corrected, and all that was corrected said in it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, NamedTuple

from tadscale.data.annotations import AnnotatedVideo, ground_truth_document
from tadscale.data.decode import probe_video
from tadscale.data.folder import list_folder
from tadscale.data.importers.base import Importer
from tadscale.data.importers.corrections import correct
from tadscale.data.importers.files import published_files
from tadscale.data.keys import same_key
from tadscale.data.matching import match_files
from tadscale.data.quarantine import DataError
from tadscale.data.storage import join, read_bytes


class Imported(NamedTuple):
    """A data set as it can be packed and scored, and what was done to it."""

    videos: tuple[AnnotatedVideo, ...]
    classes: tuple[str, ...]
    """In the order of the data set's class list; sorted where it has none."""
    published_classes: int
    """How many classes the data set has."""
    corrections: dict[str, list[str]]
    """What was corrected or left out, by kind, an entry each."""
    notes: tuple[str, ...]
    """Remarks on the data set as a whole."""

    def document(self) -> dict[str, Any]:
        """As ActivityNet JSON, with classes, notes and corrections beside the database, where evaluators pass them over."""
        about = {"classes": list(self.classes), "notes": list(self.notes), "corrections": self.corrections}
        return ground_truth_document(self.videos) | about


def import_annotations(
    importer: Importer, annotations: Iterable[str], videos: str = "", *, one_class: str = ""
) -> Imported:
    """Read and correct the annotations of a data set.

    Args:
        importer: of the data set.
        annotations: its files, or folders of them, as published.
        videos: folder of its videos. Where the files state no lengths, those of the videos are measured there, so that
            segments beyond are found; that reads every video once more than packing does.
        one_class: what all segments are labelled, for a detector that a classifier of whole videos is to name the classes
            of (`tadscale rescore`); as they are, where it is empty.

    Raises:
        UserError: a file is damaged or of another data set, or no video of the folder is of it.
        StorageError: a file cannot be read.
    """
    collected = importer.read(published_files(annotations))
    unstated = [video.video for video in collected.videos() if not video.duration_s]
    corrected = correct(collected, _measured(videos, unstated) if videos and unstated else {})
    labels = sorted({segment.label for video in corrected for segment in video.segments})
    classes, notes = collected.classes or tuple(labels), collected.notes
    if one_class:
        corrected = tuple(_labelled_alike(video, one_class) for video in corrected)
        classes, notes = (one_class,), [*notes, f"all {len(labels)} classes are labelled {one_class!r}"]
    corrections = {kind: found for kind, found in collected.corrections.items() if found}
    return Imported(corrected, classes, collected.published_classes, corrections, tuple(notes))


def _labelled_alike(video: AnnotatedVideo, label: str) -> AnnotatedVideo:
    """Of segments that differed by their labels alone, one stays."""
    return replace(video, segments=tuple(dict.fromkeys(segment._replace(label=label) for segment in video.segments)))


def _measured(videos: str, keys: list[str]) -> dict[str, float]:
    """Lengths in seconds of the videos that there are; packing says which are missing or broken."""
    durations_s = {}
    for key, path in match_files(list_folder(videos), keys, videos).files.items():
        try:
            durations_s[same_key(key)] = probe_video(read_bytes(join(videos, path))).duration_s
        except DataError:
            continue
    return durations_s
