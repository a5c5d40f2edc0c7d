"""Charades (Sigurdsson et al., ECCV 2016): 157 classes that overlap, in videos of half a minute."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from tadscale.data.importers.base import Importer
from tadscale.data.importers.collected import Collected
from tadscale.data.importers.files import class_list, matching, rows_of, seconds
from tadscale.errors import UserError
from tadscale.segments import Segment

TABLE = re.compile(r"Charades_v1_(?P<subset>train|test)\.csv")
CLASSES = re.compile(r"Charades_v1_classes\.txt")


class CharadesImporter(Importer):
    """Charades: Charades_v1_train.csv, Charades_v1_test.csv and Charades_v1_classes.txt; 157 classes."""

    name: Literal["charades"] = "charades"

    def read(self, files: Sequence[str]) -> Collected:
        """See `Importer`. A video without actions is background: so the tables say it."""
        [(url, _), *_] = matching(files, CLASSES, "Charades_v1_classes.txt, which names the classes c000 to c156")
        classes = class_list(url)
        collected = Collected(157, classes=tuple(classes.values()))
        for url, match in matching(files, TABLE, "Charades_v1_train.csv, Charades_v1_test.csv"):
            for place, row in rows_of(url, ("id", "actions", "length")):
                collected.declare(row["id"], match["subset"], place, seconds(row["length"], place))
                for segment in _actions(row["actions"], classes, place):
                    collected.add(row["id"], segment)
        return collected


def _actions(text: str, classes: Mapping[str, str], place: str) -> Iterator[Segment]:
    """`c092 11.90 21.20;c147 0.00 12.60`: class, start and end in seconds."""
    for action in filter(None, text.split(";")):
        words = action.split()
        if len(words) != 3 or words[0] not in classes:
            raise UserError(
                f"{place}: the action {action[:40]!r}: expected CLASS START END, with a class of Charades_v1_classes.txt; "
                "fetch the files again, all of one version"
            )
        yield Segment(classes[words[0]], seconds(words[1], place), seconds(words[2], place))
