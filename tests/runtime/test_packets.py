"""Which slots of the plan each packet fills, and how packets become batches."""

import numpy as np
import pytest

from tadscale.data.windows import WindowConfig
from tadscale.runtime.packets import MAX_PACKET_BYTES, PacketLayout, join_packets, windows_per_packet

TOPOLOGIES = [(world, windows) for world in (1, 2, 3, 4, 6) for windows in (1, 2, 3) if 12 // world % windows == 0]


@pytest.mark.parametrize(("world_size", "windows"), TOPOLOGIES)
@pytest.mark.parametrize("first_step", [0, 3])
def test_round_robin_gives_every_rank_its_contiguous_share_in_order(world_size, windows, first_step):
    layout = PacketLayout(first_step=first_step, total_steps=5, global_batch=12, world_size=world_size, windows=windows)
    share = 12 // world_size
    for rank in range(world_size):
        slots = [layout.slots(packet) for packet in range(rank, len(layout), world_size)]
        positions = [step * 12 + slot for step, part in slots for slot in part]
        expected = [step * 12 + rank * share + nth for step in range(first_step, 5) for nth in range(share)]
        assert positions == expected


def test_a_packet_is_the_largest_divisor_of_the_share_that_fits():
    small = WindowConfig(frames=16, stride_frames=8, height=32, width=32)
    assert windows_per_packet(12, small) == 12
    large = WindowConfig(frames=128, height=224, width=224)  # 19 MB a window
    assert windows_per_packet(12, large) == 3 == MAX_PACKET_BYTES // (128 * 224 * 224 * 3)
    assert windows_per_packet(5, large) == 1
    assert windows_per_packet(7, WindowConfig(frames=1024, height=448, width=448)) == 1


def packet(first: int, segments: int) -> dict[str, np.ndarray]:
    return {
        "position": np.arange(first, first + 2),
        "segments_frames": np.full((2, segments, 2), float(first), np.float32),
        "labels": np.full((2, segments), first),
    }


def test_joined_packets_keep_their_order_and_are_padded_to_the_longest():
    batches = list(join_packets([packet(0, 1), packet(2, 3), packet(4, 2), packet(6, 2)], per_rank=2))
    assert [batch["position"].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert batches[0]["labels"].tolist() == [[0, -1, -1], [0, -1, -1], [2, 2, 2], [2, 2, 2]]
    assert batches[0]["segments_frames"].shape == (4, 3, 2)
    assert batches[1]["labels"].shape == (4, 2)


def test_a_stream_that_ends_inside_a_batch_is_not_passed_over():
    with pytest.raises(AssertionError):
        list(join_packets([packet(0, 1)], per_rank=2))
