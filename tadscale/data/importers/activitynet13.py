"""ActivityNet-1.3 (Caba Heilbron et al., CVPR 2015): `activity_net.v1-3.min.json`."""

from collections.abc import Sequence
from typing import Literal

from tadscale.data.importers.base import Importer
from tadscale.data.importers.collected import Collected
from tadscale.data.importers.json_form import collect_json


class ActivityNet13Importer(Importer):
    """ActivityNet-1.3: activity_net.v1-3.min.json; 200 classes; train and validation (test is withheld)."""

    name: Literal["activitynet13"] = "activitynet13"

    def read(self, files: Sequence[str]) -> Collected:
        """See `Importer`. Keys are YouTube's, of 11 characters; files of videos may be called `v_KEY`."""
        return collect_json(files, 200, "activity_net.v1-3.min.json")
