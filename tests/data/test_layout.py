"""What lies where in a file: small in the manifest, and believed only as far as it makes sense."""

import hashlib

import numpy as np
import pytest

from tadscale.data.layout import BLOCK_BYTES, VideoLayout, decode_layout, digest_blocks, encode_layout
from tadscale.data.quarantine import DataError

KIB = 1024
DATA = bytes(range(256)) * 40  # 10 KiB


def layout_of(data: bytes = DATA, **changes: object) -> VideoLayout:
    facts = {
        "size": len(data),
        "block_bytes": KIB,
        "head": np.array([[0, 40], [9000, len(data)]]),
        "groups": np.array([[40, 3000], [3000, 7000], [7100, 9000]]),
        "keys_us": np.array([0, 8_341_667, 16_683_333]),
        "digests": digest_blocks(data, KIB),
    }
    return VideoLayout(**(facts | changes))


def test_what_is_written_is_read() -> None:
    layout = layout_of()
    read = decode_layout(encode_layout(layout), len(DATA))
    for one, other in zip(layout, read, strict=True):
        assert np.array_equal(one, other)
    assert read.blocks == 10
    assert read.digest(9) == hashlib.sha256(DATA[9 * KIB :]).digest()[:16]


def test_a_file_need_not_end_with_a_block() -> None:
    layout = layout_of(DATA[:-100], head=np.array([[0, 40]]))
    assert layout.block_range(9) == (9 * KIB, 10 * KIB - 100)
    assert (
        decode_layout(encode_layout(layout), layout.size).digest(9)
        == hashlib.sha256(DATA[9 * KIB : -100]).digest()[:16]
    )


def test_blocks_of_ranges() -> None:
    layout = layout_of()
    assert layout.blocks_of([(0, 1), (KIB - 1, KIB + 1), (9 * KIB, 99 * KIB), (5, 5)]) == [0, 1, 9]


def test_ten_minutes_take_seven_kilobytes() -> None:
    size, groups = 112_500_000, 72  # 1.5 Mbit/s, a key frame every 250 pictures of 30 a second
    bounds = np.linspace(40, size - 300_000, groups + 1).astype(np.int64)
    layout = VideoLayout(
        size,
        BLOCK_BYTES,
        np.array([[0, 65_000], [bounds[-1], size]]),
        np.stack([bounds[:-1], bounds[1:]], 1),
        (np.arange(groups) * 8_333_333.3).astype(np.int64),
        bytes(16 * -(-size // BLOCK_BYTES)),
    )
    assert 7000 < len(encode_layout(layout)) < 7600


def test_no_forged_layout_does_more_than_be_refused() -> None:
    """Every cut, and every byte replaced: refused, or within the file."""
    sound, rng = encode_layout(layout_of()), np.random.default_rng(0)
    forged = [sound[:end] for end in range(1, len(sound))]
    for at in range(40):
        forged += [sound[:at] + bytes([value]) + sound[at + 1 :] for value in rng.integers(0, 256, 20).tolist()]
    forged += [b"\x01" + rng.bytes(200) for _ in range(200)]
    refused = 0
    for data in forged:
        try:
            layout = decode_layout(data, len(DATA))
        except DataError:
            refused += 1
            continue
        for ranges in (layout.head, layout.groups):
            assert (np.diff(ranges.ravel()) >= 0).all()
            assert not len(ranges) or (ranges[0, 0] >= 0 and ranges[-1, 1] <= len(DATA))
        assert len(layout.digests) == 16 * layout.blocks
        assert (np.diff(layout.keys_us) >= 0).all()
    assert len(sound) - 1 < refused < len(forged)


@pytest.mark.parametrize("changes", [
    {"groups": np.array([[40, 99_000]]), "keys_us": np.array([0])}, {"head": np.array([[0, 99_000]])},
    {"digests": b""}, {"digests": bytes(160 + 16)}, {"block_bytes": 0}, {"block_bytes": 1 << 40},
])  # fmt: skip
def test_ranges_outside_and_blocks_without_digests_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(DataError, match="layout in the manifest is damaged"):
        decode_layout(encode_layout(layout_of(**changes)), len(DATA))


def test_numbers_that_add_up_to_more_than_a_file_is_long_are_refused() -> None:
    blocks = 1 << 15
    groups = np.zeros((blocks, 2), np.int64)
    huge = encode_layout(layout_of(groups=groups, keys_us=np.arange(blocks)))
    forged = huge.replace(b"\x00\x00\x01" * 20, b"\x00\x00" + b"\xff" * 6 + b"\x7f" + b"\x00\x00\x01" * 19)
    assert forged != huge
    for data in (huge, forged):
        with pytest.raises(DataError, match="layout in the manifest is damaged"):
            decode_layout(data, len(DATA))
        with pytest.raises(DataError, match="layout in the manifest is damaged"):
            decode_layout(data, blocks * KIB)


def test_a_layout_without_groups_is_refused() -> None:
    none = layout_of(groups=np.empty((0, 2), np.int64), keys_us=np.empty(0, np.int64))
    with pytest.raises(DataError, match="no group"):
        decode_layout(encode_layout(none), len(DATA))
