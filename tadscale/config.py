"""The base of every settings class: frozen, keyword-only, typed, unknown keys refused. And the choice of one by its name."""

from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema


class Config(BaseModel):
    """One node of the config tree.

    Settings classes stand beside the code that reads them; `JobConfig` composes them. The string under a field is its
    documentation, and reaches the exported JSON Schema.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        allow_inf_nan=False,  # YAML knows `.inf` and `.nan`, and no setting means either
    )


@dataclass(frozen=True)
class ChosenByName:
    """Annotates a union of settings classes of which a job names one: `Annotated[A | B, ChosenByName()]`.

    Each class has a field `name` whose default is its name. Where a job leaves the name out, the first class is meant. One
    class alone will do, which pydantic's own discriminator refuses.
    """

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        members = choices(source)
        first = next(iter(members))

        def name_of(value: Any) -> Any:
            return value.get("name", first) if isinstance(value, dict) else getattr(value, "name", None)

        schemas: dict[Any, CoreSchema] = {name: handler.generate_schema(member) for name, member in members.items()}
        return core_schema.tagged_union_schema(schemas, discriminator=name_of)


def choices(union: Any) -> dict[str, type[Config]]:
    """The classes of such a union by name, in its order; with or without its annotation."""
    kinds = get_args(union) if get_origin(union) in (Union, UnionType) else (union,)
    if hasattr(union, "__metadata__"):
        return choices(get_args(union)[0])
    return {kind.model_fields["name"].default: kind for kind in kinds}
