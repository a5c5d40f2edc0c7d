"""EPIC-KITCHENS-100 (Damen et al., IJCV 2022), action detection: verbs or nouns, in long first-person videos."""

import re
from collections.abc import Sequence
from typing import Literal

from tadscale.data.importers.base import Importer
from tadscale.data.importers.collected import Collected
from tadscale.data.importers.files import matching, rows_of, seconds
from tadscale.errors import UserError
from tadscale.segments import Segment

TABLE = re.compile(r"EPIC_100_(?P<subset>train|validation)\.csv")
LENGTHS = re.compile(r"EPIC_100_video_info\.csv")
PUBLISHED_CLASSES = {"verb": 97, "noun": 300}


class EpicKitchens100Importer(Importer):
    """EPIC-KITCHENS-100: EPIC_100_train.csv, _validation.csv and _verb_classes.csv or _noun_classes.csv."""

    name: Literal["epic_kitchens_100"] = "epic_kitchens_100"
    labels: Literal["verb", "noun"] = "verb"
    """What a segment is labelled with: the two tasks are trained and scored apart."""

    def read(self, files: Sequence[str]) -> Collected:
        """See `Importer`. `EPIC_100_video_info.csv`, where given, says how long the videos are. The test set's table has
        times without classes, and is passed over."""
        classes = self._classes(files)
        collected = Collected(PUBLISHED_CLASSES[self.labels], classes=tuple(classes.values()))
        lengths = {
            row["video_id"]: seconds(row["duration"], place)
            for url, _ in matching(files, LENGTHS)
            for place, row in rows_of(url, ("video_id", "duration"))
        }
        column = f"{self.labels}_class"
        for url, match in matching(files, TABLE, "EPIC_100_train.csv, EPIC_100_validation.csv"):
            for place, row in rows_of(url, ("video_id", "start_timestamp", "stop_timestamp", column)):
                video = row["video_id"]
                if row[column] not in classes:
                    raise UserError(
                        f"{place}: {column} is {row[column][:20]!r}, which EPIC_100_{self.labels}_classes.csv does "
                        "not have: fetch both again, of one version"
                    )
                collected.declare(video, match["subset"], place, lengths.get(video))
                start_s, end_s = (seconds(row[name], place) for name in ("start_timestamp", "stop_timestamp"))
                collected.add(video, Segment(classes[row[column]], start_s, end_s))
        return collected

    def _classes(self, files: Sequence[str]) -> dict[str, str]:
        name = f"EPIC_100_{self.labels}_classes.csv"
        [(url, _), *_] = matching(files, re.compile(re.escape(name)), f"{name}, which names the classes")
        return {row["id"]: row["key"] for _, row in rows_of(url, ("id", "key"))}
