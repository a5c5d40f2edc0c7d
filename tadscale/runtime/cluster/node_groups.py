"""Which nodes each part of a stage runs on, where a cluster has several kinds of them."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tadscale.config import Config

Part = Literal["fetch", "motion", "training"]
BUILT_IN = ("CPU", "GPU", "memory", "object_store_memory")


def _custom(name: str) -> str:
    if name in BUILT_IN:
        raise ValueError(
            f"{name} is a resource of Ray's own, which every node has: name one that only some nodes offer"
        )
    return name


Group = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$"), AfterValidator(_custom)]


class NodeGroups(Config):
    """Kinds of nodes, each by the custom resource of Ray that its nodes offer, as much of it as they have CPUs.

    A process takes of its group what it takes of CPUs: it can run nowhere else, and a group that is too small shows before
    the start, as a cluster that is too small does. They are offered by `ray start --resources '{"motion": 16}'`, and by
    `resources` of a worker group in KubeRay or of a node type in `cluster/aws.yaml`.
    """

    fetch: Group | None = None
    """Where tasks fetch and decode; by default anywhere."""
    motion: Group | None = None
    """Where motion and the frozen teacher run; by default anywhere."""
    training: Group | None = None
    """Where the training workers run; by default anywhere."""

    def share(self, part: Part, cpus: float) -> dict[str, float]:
        """What processes of a part take of their group, all together; nothing where any node will do."""
        group: str | None = getattr(self, part)
        return {group: cpus} if group else {}

    @property
    def names(self) -> tuple[str, ...]:
        """All groups, each once."""
        return tuple(dict.fromkeys(name for name in (self.fetch, self.motion, self.training) if name))
