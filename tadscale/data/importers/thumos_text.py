"""Text files of the THUMOS challenge: a file a class, a line a segment, `VIDEO START END` in seconds."""

import re
from collections.abc import Iterator

from tadscale.data.importers.files import lines_of, seconds
from tadscale.errors import UserError
from tadscale.segments import Segment

VIDEO = re.compile(r"video_(?P<subset>validation|test)_\d{7}")


def thumos_subset(video: str, place: str) -> str:
    """The subset that a video's name says; files in use call the validation set `train`, or the test set `validation`.

    Raises:
        UserError: it is none of THUMOS14's untrimmed videos.
    """
    if match := VIDEO.fullmatch(video):
        return match["subset"]
    raise UserError(
        f"{place}: {video!r} is no video of THUMOS14, which are called video_validation_0000001 or video_test_0000001: are "
        "these the annotations of another data set?"
    )


def read_class_file(url: str, label: str) -> Iterator[tuple[str, str, Segment]]:
    """Place, video and segment of every line.

    Raises:
        UserError: a line is of another form.
        StorageError: the file cannot be read.
    """
    for place, line in lines_of(url):
        words = line.split()
        if len(words) != 3:
            raise UserError(f"{place}: {line[:60]!r}: expected VIDEO START END, in seconds; fetch the file again")
        yield place, words[0], Segment(label, seconds(words[1], place), seconds(words[2], place))
