"""Settings of the cache of what a frozen teacher says of windows, which outlasts a run."""

from pydantic import Field

from tadscale.config import Config


class TeacherCacheConfig(Config):
    """Keep what the teacher says of training windows, for later epochs and runs that ask the same. It decides no result."""

    url: str = Field(min_length=1)
    """Folder or object-store prefix. Runs may share it, at the same time and one after the other; each teacher, motion, set
    of windows and kind of machine has a folder of its own in it, which may be deleted at any time."""
    bytes: int = Field(ge=1 << 20)
    """The most that one such folder may hold: of the windows, numbered as in the plan, the first that fit are kept."""
