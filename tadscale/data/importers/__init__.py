"""Public data sets, a file each: their own annotation files, read as they were published. `ImporterConfig` lists them all;
`tadscale data import NAME` chooses one."""

from typing import Annotated

from tadscale.config import ChosenByName, Config, choices
from tadscale.data.importers.activitynet13 import ActivityNet13Importer
from tadscale.data.importers.base import Importer
from tadscale.data.importers.charades import CharadesImporter
from tadscale.data.importers.ego4d_mq import Ego4dMqImporter
from tadscale.data.importers.epic_kitchens_100 import EpicKitchens100Importer
from tadscale.data.importers.fineaction import FineActionImporter
from tadscale.data.importers.hacs import HacsImporter
from tadscale.data.importers.multithumos import MultiThumosImporter
from tadscale.data.importers.thumos14 import Thumos14Importer
from tadscale.data.importers.ucf101 import Ucf101Importer
from tadscale.errors import UserError, nearest

ImporterConfig = Annotated[
    ActivityNet13Importer
    | CharadesImporter
    | Ego4dMqImporter
    | EpicKitchens100Importer
    | FineActionImporter
    | HacsImporter
    | MultiThumosImporter
    | Thumos14Importer
    | Ucf101Importer,
    ChosenByName(),
]
"""Which data set, and the settings of its importer: the one list of data sets."""


def importer_of(name: str) -> type[Importer]:
    """The importer of a data set.

    Raises:
        UserError: there is none of this name.
    """
    known = {key: kind for key, kind in choices(ImporterConfig).items() if issubclass(kind, Importer)}
    if name not in known:
        raise UserError(f"{name!r} is no data set that can be imported: {nearest(name, known)}")
    return known[name]


def described_importers() -> dict[str, str]:
    """A line on each data set, by its name, with its settings if it has any."""
    return {name: _described(kind) for name, kind in choices(ImporterConfig).items()}


def _described(kind: type[Config]) -> str:
    settings = ", ".join(field for field in kind.model_fields if field != "name")
    return (kind.__doc__ or "").partition("\n")[0] + (f" Settings: {settings}." if settings else "")
