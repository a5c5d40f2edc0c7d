"""MultiTHUMOS (Yeung et al., IJCV 2018): the untrimmed videos of THUMOS14, densely annotated with 65 classes."""

import re
from collections.abc import Sequence
from typing import Literal

from tadscale.data.importers.base import Importer
from tadscale.data.importers.collected import Collected
from tadscale.data.importers.files import class_list, matching
from tadscale.data.importers.thumos_text import read_class_file, thumos_subset

CLASS_LIST = re.compile(r"class_list\.txt")
TEXT = re.compile(r"(?!class_list|readme)(?P<label>\w+)\.txt", re.IGNORECASE)


class MultiThumosImporter(Importer):
    """MultiTHUMOS: the folder of CLASS.txt with class_list.txt; 65 classes; THUMOS14's videos."""

    name: Literal["multithumos"] = "multithumos"

    def read(self, files: Sequence[str]) -> Collected:
        """See `Importer`."""
        collected = Collected(65)
        for url, _ in matching(files, CLASS_LIST):
            collected.classes = tuple(class_list(url).values())
        for url, match in matching(files, TEXT, "CLASS.txt, a file a class"):
            for place, video, segment in read_class_file(url, match["label"]):
                collected.declare(video, thumos_subset(video, place), place)
                collected.add(video, segment)
        return collected
