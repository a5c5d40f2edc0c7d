"""Draw the built-in data if they are not there yet, on all the cluster's CPUs."""

from collections import deque
from collections.abc import Iterator

from pydantic import ValidationError

from tadscale.data.manifest import MANIFEST_NAME, Manifest, read_manifest
from tadscale.data.shards import VideoSample, write_shards
from tadscale.data.sprites import SUBSETS, SpritesConfig, class_names, draw_video
from tadscale.data.storage import join, list_names, read_bytes, write_bytes
from tadscale.errors import UserError

SETTINGS_NAME = "sprites.json"
IN_FLIGHT = 64  # videos drawn ahead of the writer: order is kept, and memory stays at a few MB
VIDEOS_PER_SHARD = 64


def ensure_sprites(config: SpritesConfig, url: str) -> Manifest:
    """The manifest of the sprites under `url`, drawn first if there is none.

    Raises:
        UserError: other settings were drawn there before, or the folder holds foreign shards.
        StorageError: the storage cannot be reached.
    """
    names = list_names(url)
    # Left-over shards without a manifest are an interrupted drawing of ours if our settings lie beside them: only then may
    # they be replaced.
    resumed = any(name.endswith(".tar") or name in (MANIFEST_NAME, SETTINGS_NAME) for name in names)
    if resumed:
        _check_settings(url, names, config)
    if MANIFEST_NAME in names:
        return read_manifest(url)
    note_settings(config, url)
    return write_shards(
        _drawn(config), url, videos_per_shard=VIDEOS_PER_SHARD, classes=class_names(config), overwrite=resumed
    )


def drawn_already(config: SpritesConfig, url: str) -> bool:
    """Whether the manifest of these sprites lies there.

    Raises:
        UserError: other settings were drawn there before, or the folder holds foreign shards.
        StorageError: the storage cannot be reached.
    """
    names = list_names(url)
    if any(name.endswith(".tar") or name in (MANIFEST_NAME, SETTINGS_NAME) for name in names):
        _check_settings(url, names, config)
    return MANIFEST_NAME in names


def note_settings(config: SpritesConfig, url: str) -> None:
    """Lay the settings beside the shards that are drawn with them: a job that wants the same will take them."""
    write_bytes(join(url, SETTINGS_NAME), config.model_dump_json(indent=1).encode())


def _check_settings(url: str, names: list[str], config: SpritesConfig) -> None:
    if SETTINGS_NAME not in names:
        raise UserError(
            f"{url} holds shards that are not sprites, and the job says data.sprites: leave data.sprites out to train on "
            "them, or point data.url at another folder"
        )
    if not _same_settings(read_bytes(join(url, SETTINGS_NAME)), config):
        raise UserError(
            f"{url} holds sprites that were drawn with other settings (see {SETTINGS_NAME} there): point data.url at "
            "another folder, or remove that one"
        )


def _same_settings(stored: bytes, config: SpritesConfig) -> bool:
    """Compared as settings, not as bytes: a file of before a setting existed means the setting's default."""
    try:
        return SpritesConfig.model_validate_json(stored) == config
    except ValidationError:  # cut short, or of a version that knows other settings
        return False


def _drawn(config: SpritesConfig) -> Iterator[VideoSample]:
    """All videos in order, drawn by parallel tasks."""
    import ray

    draw = ray.remote(num_cpus=0.5)(draw_video)
    wanted = ((subset, index) for subset in SUBSETS for index in range(getattr(config, subset)))
    pending: deque = deque()
    for subset, index in wanted:
        pending.append(draw.remote(config, subset, index))
        if len(pending) >= IN_FLIGHT:
            yield ray.get(pending.popleft())
    while pending:
        yield ray.get(pending.popleft())
