"""The base of every settings class: frozen, keyword-only, typed, unknown keys refused."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """One node of the config tree.

    Settings classes stand beside the code that reads them; `JobConfig` composes them. The string under a field is its
    documentation, and reaches the exported JSON Schema.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)
