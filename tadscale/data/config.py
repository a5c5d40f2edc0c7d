"""Where a job's videos are, and how windows are cut from them."""

from pydantic import Field

from tadscale.config import Config
from tadscale.data.block_cache import CacheConfig
from tadscale.data.source import Source
from tadscale.data.sprites import SpritesConfig
from tadscale.data.windows import WindowConfig


class DataConfig(Config):
    """Where the videos are, and how windows are cut from them."""

    url: str = Field(min_length=1)
    """Folder or object-store prefix of the shards and their manifest (`path`, `file://`, `s3://`)."""
    sprites: SpritesConfig | None = None
    """Draw the built-in data there if there is no manifest yet. Leave out for own data."""
    window: WindowConfig = WindowConfig()
    """What the network sees."""
    train_subset: str = "train"
    """Subset that is trained on."""
    sources: tuple[Source, ...] = ()
    """What is trained on, where that is more than the one subset under `url`; replaces it there."""
    test_subset: str = "test"
    """Subset that detections are made and scored on."""
    validation_subset: str = "validation"
    """Subset on which an epoch is chosen, where `evaluate.select` says so."""
    cache: CacheConfig | None = None
    """Keep what training fetches on each node's disk; by default nothing is kept. It decides no result."""
    quarantine_budget: float = Field(default=0.01, ge=0, le=1)
    """Largest share of the videos that may turn out to be unreadable before the run fails."""

    @property
    def training_sources(self) -> tuple[Source, ...]:
        """What is trained on: `sources`, or the training subset under `url`."""
        return self.sources or (Source(url=self.url, subset=self.train_subset),)
