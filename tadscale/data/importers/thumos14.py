"""THUMOS14 (Jiang et al. 2014), temporal action detection: 20 classes, 200 validation and 213 test videos.

The validation set is what is trained on. Three ground truths of the test set are in use, and mAP differs by tenths between
them; they are known by their number of instances. All that is said of them here was counted in the official files.
"""

import re
from collections.abc import Sequence
from typing import Literal

from tadscale.data.importers.base import Importer
from tadscale.data.importers.collected import Collected
from tadscale.data.importers.files import matching
from tadscale.data.importers.json_form import JSON, collect_json
from tadscale.data.importers.thumos_text import read_class_file, thumos_subset
from tadscale.data.suspicions import AMBIGUOUS
from tadscale.errors import UserError
from tadscale.segments import Segment

TEXT = re.compile(r"(?P<label>[A-Za-z]+)_(?P<subset>val|test)\.txt")
EXPECTED = "CLASS_val.txt, CLASS_test.txt (the official folders), or a JSON file"
KEPT_OUT = "ambiguous segments, kept out"
AMBIGUOUS_ALONE = "videos with ambiguous segments alone, left out"
ON_A_HAIRCUT, NOT_ITS_OWN = "video_test_0000270", "video_test_0001496"
"""Videos whose annotations are false: 29 segments of HammerThrow, of which 22 lie past the end; 18 of CricketShot."""
ENDS_S = {"video_test_0000814": 181.13, "video_test_0001081": 117.13}
"""Where two test videos end that have segments beyond: 3 of ThrowDiscus, 1 of Diving."""
VARIANTS = {
    3358: f"the official files without their ambiguous segments (video_test_0001292 has no others); "
    f"{ON_A_HAIRCUT} (29 instances) and {NOT_ITS_OWN} (18) are in it, though falsely annotated, and 4 instances past the "
    f"end of {' and '.join(ENDS_S)}",
    3325: f"3358 without {ON_A_HAIRCUT} (29 instances) and without the 4 past the end of {' and '.join(ENDS_S)}",
    3311: f"3358 without {ON_A_HAIRCUT} (29 instances) and {NOT_ITS_OWN} (18)",
}
"""Test instances of the ground truths in use, of 212, 211 and 210 videos, and what is in them."""


class Thumos14Importer(Importer):
    """THUMOS14: the official folders of CLASS_val.txt and CLASS_test.txt, or a JSON in use; 20 classes."""

    name: Literal["thumos14"] = "thumos14"
    keep_ambiguous: bool = False
    """Keep ambiguous segments, as a class `Ambiguous`; `tadscale score --leave-out Ambiguous` sets it aside."""
    variant: Literal[3358, 3325, 3311] | None = None
    """Leave out of the test set what the ground truth of so many instances leaves out; by default nothing."""

    def read(self, files: Sequence[str]) -> Collected:
        """See `Importer`."""
        text = matching(files, TEXT)
        if text and matching(files, JSON):
            raise UserError("both text files and JSON are given: give the annotations once, in either form")
        collected = self._read_text(text) if text else collect_json(files, 20, EXPECTED, thumos_subset)
        if not self.keep_ambiguous:
            _set_ambiguous_aside(collected)
        if self.variant:
            _reduce(collected, self.variant)
        collected.notes += [*_variant(collected), *_twice_labelled(collected)]
        return collected

    def _read_text(self, files: Sequence[tuple[str, re.Match[str]]]) -> Collected:
        collected = Collected(20)
        for url, match in files:
            for place, video, segment in read_class_file(url, match["label"]):
                collected.declare(video, thumos_subset(video, place), place)
                collected.add(video, segment)
        return collected


def _set_ambiguous_aside(collected: Collected) -> None:
    """Hard to call action or none: the challenge takes them out of training and scoring."""
    for video in list(collected.videos()):
        aside = [segment for segment in video.segments if segment.label == AMBIGUOUS]
        if len(aside) == len(video.segments):
            collected.corrections[AMBIGUOUS_ALONE].append(video.video)
        collected.corrections[KEPT_OUT] += [f"{video.video}: [{at.start_s:g}, {at.end_s:g}] s" for at in aside]
        collected.keep(video, (segment for segment in video.segments if segment.label != AMBIGUOUS))


def _reduce(collected: Collected, variant: int) -> None:
    """Leave out what a variant does.

    Raises:
        UserError: what is left is not this variant.
    """
    for video in list(collected.videos()):
        kept = [segment for segment in video.segments if _belongs(video.video, segment, variant)]
        left_out = len(video.segments) - len(kept)
        collected.corrections[f"instances that the variant {variant} leaves out"] += [video.video] * left_out
        if left_out:
            collected.keep(video, kept)
    count, _ = _test_instances(collected)
    if count != variant:
        raise UserError(
            f"variant={variant}: {count} test instances are left of these files. It can be made of the official text files, "
            "which hold all that any variant does: give the folders of CLASS_val.txt and CLASS_test.txt"
        )


def _belongs(video: str, segment: Segment, variant: int) -> bool:
    without = {3358: (), 3325: (ON_A_HAIRCUT,), 3311: (ON_A_HAIRCUT, NOT_ITS_OWN)}[variant]
    past_end = variant == 3325 and segment.start_s > ENDS_S.get(video, segment.start_s)
    return video not in without and not past_end


def _test_instances(collected: Collected) -> tuple[int, int]:
    """Clear instances of the test set, and videos that have any."""
    counts = [
        sum(segment.label != AMBIGUOUS for segment in video.segments)
        for video in collected.videos()
        if video.subset == "test"
    ]
    return sum(counts), sum(count > 0 for count in counts)


def _variant(collected: Collected) -> list[str]:
    """Which ground truth this is, before anything is corrected."""
    count, videos = _test_instances(collected)
    if not count:
        return []
    others = f"none of the ground truths in use, which have {', '.join(map(str, VARIANTS))}"
    return [f"test set as given: {count} instances in {videos} videos: {VARIANTS.get(count, others)}"]


def _twice_labelled(collected: Collected) -> list[str]:
    """Every CliffDiving is annotated as Diving, too."""
    cliff = both = 0
    for video in collected.videos():
        segments = set(video.segments)
        of_cliff = [segment for segment in segments if segment.label == "CliffDiving"]
        cliff += len(of_cliff)
        both += sum(segment._replace(label="Diving") in segments for segment in of_cliff)
    return [f"CliffDiving is Diving, too: {both} of its {cliff} segments have both labels"] if cliff else []
