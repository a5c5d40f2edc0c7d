"""A registered version at hand: where every node reads it, and what it costs."""

import time
from pathlib import Path
from typing import NamedTuple

from tadscale.data.manifest import Manifest
from tadscale.data.quarantine import DataError
from tadscale.data.storage import join, write_bytes
from tadscale.data.windows import read_video
from tadscale.errors import UserError
from tadscale.gate.verdict import Cost
from tadscale.network import WEIGHTS_NAME, NetworkSpec, read_spec
from tadscale.runtime.models.registry import ModelVersion, Registry
from tadscale.serving.predictor import Predictor, detector_folder

TIMED_VIDEOS = 3


class Contender(NamedTuple):
    """A version that is compared with another."""

    version: ModelVersion
    url: str
    """Folder of its network, in the run's storage."""
    spec: NetworkSpec
    cost: Cost


def lay_out(registry: Registry, version: ModelVersion, storage: str, timed: Manifest | None) -> Contender:
    """Fetch a version's network into the storage, and tell what it costs.

    Args:
        registry: that has it.
        version: which.
        storage: folder or prefix that every node reads.
        timed: videos to measure its time on; None: that is not asked.

    Raises:
        UserError: it is no detector, or is damaged; or its time is asked, and it reads motion or no video can be read.
        StorageError: the storage cannot be reached.
    """
    url = join(storage, f"version-{version.version}")
    with registry.fetch(version.name, version.version) as package:
        folder = detector_folder(package)
        for path in sorted(folder.iterdir()):
            write_bytes(join(url, path.name), path.read_bytes())
        cost = Cost(
            weights_bytes=(folder / WEIGHTS_NAME).stat().st_size,
            seconds_per_video_second=None if timed is None else _seconds_per_video_second(folder, timed),
        )
    return Contender(version, url, read_spec(url), cost)


def _seconds_per_video_second(folder: Path, videos: Manifest) -> float:
    """Over the first few videos that can be decoded, which are at hand by then: a detector's pace is not the storage's. The
    first of them is seen once before, for what comes only once is not its pace either."""
    predictor = Predictor.from_directory(folder)
    times: list[tuple[float, float]] = []  # that a video took, and that it lasts
    for row in map(videos.row, range(len(videos))):
        try:
            video = read_video(row)
            if not times:
                predictor.detect(video, row.key)
            begun_s = time.perf_counter()
            duration_s, _ = predictor.detect(video, row.key)
        except DataError:
            continue
        times.append((time.perf_counter() - begun_s, duration_s))
        if len(times) == TIMED_VIDEOS:
            break
    if not times:
        raise UserError(f"no video of {videos.url} can be decoded, so there is nothing to measure a detector's time on")
    took_s, lasts_s = map(sum, zip(*times, strict=True))
    return took_s / lasts_s
