"""Detection heads, a folder a published family: `network.py` is exported, `objective.py` teaches it and stays behind.
`HeadConfig` lists them all: a job chooses by `model.head.name`."""

from typing import Annotated

from tadscale.config import ChosenByName
from tadscale.models.heads.actionformer.network import ActionFormerConfig
from tadscale.models.heads.afsd.network import AfsdConfig
from tadscale.models.heads.gtad.network import GTADConfig
from tadscale.models.heads.tadtr.network import TadTRConfig
from tadscale.models.heads.tags.network import TagsConfig

HeadConfig = Annotated[ActionFormerConfig | AfsdConfig | GTADConfig | TadTRConfig | TagsConfig, ChosenByName()]
"""Which detection head, and its settings: the one list of heads."""
