"""UCF101 (Soomro, Zamir, Shah 2012): clips of one action each, 25 groups a class; three splits by groups."""

import re
from collections.abc import Iterator, Sequence
from typing import Literal

from tadscale.data.importers.base import Importer
from tadscale.data.importers.collected import WHOLE, Collected
from tadscale.data.importers.files import class_list, file_name, lines_of, matching
from tadscale.errors import UserError
from tadscale.segments import Segment

CLIP = re.compile(r"v_(?P<label>\w+)_g(?P<group>\d\d)_c\d\d(\.\w+)?")
CLASS_LIST = re.compile(r"classInd\.txt")
GROUPS_OF_A_TEST_SET = 7
"""Split 1 tests on groups 1 to 7, split 2 on 8 to 14, split 3 on 15 to 21, of 25."""


class Ucf101Importer(Importer):
    """UCF101: trainlist0N.txt and testlist0N.txt, or the folder of the clips; 101 classes; needs --videos."""

    name: Literal["ucf101"] = "ucf101"
    split: Literal[1, 2, 3] = 1
    """Which of the three splits into train and test."""

    def read(self, files: Sequence[str]) -> Collected:
        """See `Importer`. A clip's label lasts as long as the clip. Without lists, the groups make the split."""
        collected = Collected(101)
        for url, _ in matching(files, CLASS_LIST):
            collected.classes = tuple(class_list(url).values())
        # Files are called v_HandStandPushups_g01_c01.avi; class lists say HandstandPushups, too.
        spelt = {name.casefold(): name for name in collected.classes}
        for place, clip, subset in self._listed(files) or self._by_groups(files):
            match = CLIP.fullmatch(file_name(clip))
            if match is None:
                raise UserError(f"{place}: {clip[:60]!r} is no clip of UCF101, such as v_Archery_g01_c01.avi")
            video, label = file_name(clip), match["label"]
            if video in collected:
                raise UserError(f"{place}: {video} is listed twice; every clip is in one list of a split, once")
            collected.declare(video, subset, place)
            collected.add(video, Segment(spelt.get(label.casefold(), label), 0.0, WHOLE))
        return collected

    def _listed(self, files: Sequence[str]) -> list[tuple[str, str, str]]:
        """Place, clip and subset of all lines of this split's lists: `Archery/v_Archery_g08_c01.avi 3`."""
        lists = matching(files, re.compile(rf"(?P<subset>train|test)list0{self.split}\.txt"))
        return [(place, line.split()[0], match["subset"]) for url, match in lists for place, line in lines_of(url)]

    def _by_groups(self, files: Sequence[str]) -> Iterator[tuple[str, str, str]]:
        expected = f"trainlist0{self.split}.txt, testlist0{self.split}.txt, or clips such as v_Archery_g01_c01.avi"
        last = self.split * GROUPS_OF_A_TEST_SET
        for url, match in matching(files, CLIP, expected):
            tested = last - GROUPS_OF_A_TEST_SET < int(match["group"]) <= last
            yield url, url, "test" if tested else "train"
