"""HACS Segments (Zhao et al., ICCV 2019): `HACS_segments_v1.1.1.json`."""

from collections.abc import Sequence
from typing import Literal

from tadscale.data.importers.base import Importer
from tadscale.data.importers.collected import Collected
from tadscale.data.importers.json_form import collect_json


class HacsImporter(Importer):
    """HACS Segments: HACS_segments_v1.1.1.json; 200 classes; train and validation (test is withheld)."""

    name: Literal["hacs"] = "hacs"

    def read(self, files: Sequence[str]) -> Collected:
        """See `Importer`. `HACS_clips_v1.1.1.csv` of the same archive, labels of two-second clips, is passed over."""
        return collect_json(files, 200, "HACS_segments_v1.1.1.json")
