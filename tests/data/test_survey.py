"""What lies where, as found by watching a demuxer, against what the containers' own formats and packets say."""

import io
import struct
from collections.abc import Iterator

import av
import numpy as np
import pytest

from tadscale.data.index import index_shards
from tadscale.data.layout import decode_layout
from tadscale.data.lint import lint
from tadscale.data.manifest import VideoRow, make_manifest, read_manifest, write_manifest
from tadscale.data.quarantine import QuarantineLedger
from tadscale.data.storage import read_range
from tadscale.data.survey import survey_video
from tests.data.kinds import BLOCK, KINDS, clip, packed, small_blocks


@pytest.fixture(autouse=True, scope="module")
def blocks() -> Iterator[None]:
    with small_blocks():
        yield


@pytest.fixture(scope="module")
def mp4() -> bytes:
    return clip()


@pytest.mark.parametrize("kind", ["mp4, sound", "mp4, edit list", "matroska"])
def test_groups_are_where_the_packets_are(kind: str) -> None:
    video = KINDS[kind].make()
    layout = decode_layout(survey_video(video), len(video))
    with av.open(io.BytesIO(video)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
    keys = [packet for packet in packets if packet.is_keyframe]
    assert layout.groups[:, 0].tolist() == [key.pos for key in keys]
    times_s = [float((key.pts - (stream.start_time or 0)) * key.time_base) for key in keys]
    np.testing.assert_allclose(layout.keys_us / 1e6, times_s, atol=1e-6)
    for packet in packets:
        group = int(np.searchsorted(layout.groups[:, 0], packet.pos, "right")) - 1
        assert packet.pos + packet.size <= layout.groups[group, 1]


def boxes(video: bytes) -> dict[bytes, tuple[int, int]]:
    """First byte and end of an MP4's boxes on the top level (ISO/IEC 14496-12, 4.2)."""
    found, at = {}, 0
    while at < len(video):
        size, name = struct.unpack(">I4s", video[at : at + 8])
        found[name] = at, at + size
        at += size
    return found


@pytest.mark.parametrize("kind", ["mp4", "mp4, index in front"])
def test_an_mp4_s_index_is_part_of_its_head(kind: str) -> None:
    video = KINDS[kind].make()
    layout, top = decode_layout(survey_video(video), len(video)), boxes(video)
    assert (top[b"moov"][0] > top[b"mdat"][0]) == (kind == "mp4")
    for name in (b"ftyp", b"moov"):
        first, end = top[name]
        assert any(start <= first and end <= stop for start, stop in layout.head.tolist())
    assert (layout.head[:, 1] - layout.head[:, 0]).sum() < 0.2 * len(video)


def test_small_groups_are_put_together() -> None:
    video = clip(gop=1)
    layout = decode_layout(survey_video(video), len(video))
    sizes = layout.groups[:, 1] - layout.groups[:, 0]
    assert (sizes[:-1] >= BLOCK).all()
    assert (layout.groups[1:, 0] == layout.groups[:-1, 1]).all()


def test_short_and_damaged_files_have_none(mp4: bytes) -> None:
    assert survey_video(mp4[: 4 * BLOCK]) == b""
    assert survey_video(bytes(len(mp4))) == b""
    assert survey_video(mp4[: len(mp4) // 2]) == b""  # its index is gone


def plain(row: VideoRow) -> VideoRow:
    return row._replace(label_ids=None)


def test_shards_packed_before_get_theirs_by_indexing_and_stay_the_same_data(tmp_path, mp4: bytes) -> None:
    url = str(tmp_path)
    row = packed(mp4, url)
    before = make_manifest(url, [row._replace(layout=b"")])
    write_manifest(before)
    assert plain(read_manifest(url).row(0)) == plain(row._replace(layout=b""))
    assert lint(url).ok
    indexed = index_shards(url, QuarantineLedger()).manifest
    assert plain(read_manifest(url).row(0)) == plain(indexed.row(0)) == plain(row)
    assert lint(url).ok
    assert indexed.digest == before.digest
    assert read_range(row.url, row.video_offset, row.video_bytes, row.video_sha256) == mp4


def test_lint_finds_a_layout_of_other_bytes(tmp_path, mp4: bytes) -> None:
    row = packed(mp4, str(tmp_path))
    write_manifest(make_manifest(str(tmp_path), [row._replace(layout=row.layout[:-1] + b"x")]))
    assert any("layout of the manifest and of" in error for error in lint(str(tmp_path)).errors)
