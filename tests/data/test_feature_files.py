"""Features that are computed into files: none twice, and none of a video that is no longer there."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tadscale.data.encode import encode_h264
from tadscale.data.feature_files import DIGESTS_NAME, write_feature_files
from tadscale.data.manifest import Manifest
from tadscale.data.quarantine import QuarantineLedger
from tadscale.data.shards import VideoSample, write_shards
from tadscale.errors import UserError
from tests.data.clips import numbered

NOTE = {"subset": "train", "annotations": []}


def packed(folder: Path, **seeds: int) -> Manifest:
    """A data set with a video of that many pictures for each key."""
    samples = [VideoSample(key, encode_h264(numbered(count, 32, 32), 10), NOTE) for key, count in seeds.items()]
    return write_shards(samples, str(folder), overwrite=True)


def length_of(video: bytes, duration_s: float) -> NDArray[np.float32]:
    """Features that tell two videos apart."""
    return np.full((2, 3), duration_s, np.float32)


def computed(videos: Manifest, folder: Path) -> int:
    return write_feature_files(videos, str(folder), length_of, "a network", QuarantineLedger())


def lengths_s(folder: Path, keys: Sequence[str]) -> list[float]:
    return [float(np.load(folder / f"{key}.npy")[0, 0]) for key in keys]


def test_what_is_there_is_not_computed_again(tmp_path: Path) -> None:
    videos = packed(tmp_path / "data", **{"a": 10, "b": 20, ".hidden": 10})
    assert computed(videos, tmp_path / "out") == 3
    assert computed(videos, tmp_path / "out") == 0
    (tmp_path / "out" / "b.npy").unlink()
    assert computed(videos, tmp_path / "out") == 1


def test_what_makes_them_is_said_before_the_first_is_made(tmp_path: Path) -> None:
    videos = packed(tmp_path / "data", a=10)

    def seen(video: bytes, duration_s: float) -> NDArray[np.float32]:
        assert (tmp_path / "out" / "how.json").read_bytes() == b"{}"
        return length_of(video, duration_s)

    ledger, out = QuarantineLedger(), str(tmp_path / "out")
    assert write_feature_files(videos, out, seen, "a network", ledger, beside={"how.json": b"{}"}) == 1
    with pytest.raises(UserError, match="write to another folder"):
        write_feature_files(videos, out, length_of, "another", ledger, beside={"how.json": b"other"})
    assert (tmp_path / "out" / "how.json").read_bytes() == b"{}"


def test_a_video_that_was_replaced_is_computed_anew(tmp_path: Path) -> None:
    computed(packed(tmp_path / "data", a=10, b=20), tmp_path / "out")
    videos = packed(tmp_path / "data", a=30, b=20)
    assert computed(videos, tmp_path / "out") == 1
    assert lengths_s(tmp_path / "out", "ab") == pytest.approx([3.0, 2.0])
    assert computed(videos, tmp_path / "out") == 0


def test_interrupted_before_it_came_to_a_replaced_video_it_does_so_later(tmp_path: Path) -> None:
    computed(packed(tmp_path / "data", a=10, b=20), tmp_path / "out")
    videos = packed(tmp_path / "data", a=30, b=40)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_feature_files(videos, str(tmp_path / "out"), length_of, "a network", QuarantineLedger(), interrupt)
    assert computed(videos, tmp_path / "out") == 1
    assert lengths_s(tmp_path / "out", "ab") == pytest.approx([3.0, 4.0])


def test_features_of_an_earlier_version_are_those_of_the_videos_as_they_are_now(tmp_path: Path) -> None:
    videos = packed(tmp_path / "data", a=10)
    computed(videos, tmp_path / "out")
    (tmp_path / "out" / DIGESTS_NAME).unlink()
    assert computed(videos, tmp_path / "out") == 0
    assert computed(packed(tmp_path / "data", a=30), tmp_path / "out") == 1


def test_a_file_of_digests_that_is_none_is_named(tmp_path: Path) -> None:
    videos = packed(tmp_path / "data", a=10)
    computed(videos, tmp_path / "out")
    (tmp_path / "out" / DIGESTS_NAME).write_text("[1]")
    with pytest.raises(UserError, match=r"computed_of\.json is no JSON object"):
        computed(videos, tmp_path / "out")
