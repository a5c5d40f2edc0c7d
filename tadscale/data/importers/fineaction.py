"""FineAction (Liu et al., IEEE TIP 2022): `annotations_gt.json`."""

from collections.abc import Sequence
from typing import Literal

from tadscale.data.importers.base import Importer
from tadscale.data.importers.collected import Collected
from tadscale.data.importers.json_form import collect_json


class FineActionImporter(Importer):
    """FineAction: annotations_gt.json; 106 classes; train and validation (test is withheld)."""

    name: Literal["fineaction"] = "fineaction"

    def read(self, files: Sequence[str]) -> Collected:
        """See `Importer`."""
        return collect_json(files, 106, "annotations_gt.json")
