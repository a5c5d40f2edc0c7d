"""Which slots of the plan each packet fills, and how packets become batches."""

import numpy as np
import pytest

from tadscale.data.windows import WindowConfig
from tadscale.runtime.pipeline.packets import (
    MAX_BYTES_AHEAD,
    MAX_PACKET_BYTES,
    PacketLayout,
    cut_batches,
    windows_per_packet,
)
from tadscale.runtime.training.failed import CODE_ERRORS

WHOLE = [(world, windows) for world in (1, 2, 3, 4, 6) for windows in (1, 2, 3) if 12 // world % windows == 0]
SEVERAL_STEPS = [(1, 24), (2, 18), (3, 8), (4, 6), (12, 1), (12, 4), (12, 99)]


@pytest.mark.parametrize(("world_size", "windows"), WHOLE + SEVERAL_STEPS)
@pytest.mark.parametrize("first_step", [0, 3])
def test_round_robin_gives_every_rank_its_contiguous_share_in_order(world_size, windows, first_step):
    layout = PacketLayout(first_step=first_step, total_steps=5, global_batch=12, world_size=world_size, windows=windows)
    share = 12 // world_size
    for rank in range(world_size):
        packets = [layout.slots(packet) for packet in range(rank, len(layout), world_size)]
        positions = [step * 12 + slot for packet in packets for step, slot in packet]
        expected = [step * 12 + rank * share + nth for step in range(first_step, 5) for nth in range(share)]
        assert positions == expected
        assert all(0 < len(packet) <= windows and len(packet) % min(windows, share) == 0 for packet in packets)


def test_a_resumed_run_is_cut_where_the_whole_one_is():
    whole, resumed = (
        PacketLayout(first_step=first, total_steps=10, global_batch=4, world_size=2, windows=8) for first in (0, 3)
    )
    packets = [[whole.slots(p) for p in range(len(whole))], [resumed.slots(p) for p in range(len(resumed))]]
    assert [sorted({step for step, _ in slots}) for slots in packets[0][::2]] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert [sorted({step for step, _ in slots}) for slots in packets[1][::2]] == [[3], [4, 5, 6, 7], [8, 9]]


def test_a_packet_is_the_largest_divisor_of_the_share_that_fits():
    large = WindowConfig(frames=128, height=224, width=224)  # 19 MB a window
    assert windows_per_packet(12, large) == 3 == MAX_PACKET_BYTES // (128 * 224 * 224 * 3)
    assert windows_per_packet(5, large) == 1
    assert windows_per_packet(7, WindowConfig(frames=1024, height=448, width=448)) == 1


def test_small_steps_travel_together():
    window = WindowConfig(frames=160, height=56, width=56)  # 1.5 MB
    assert windows_per_packet(1, window) == 5 == MAX_BYTES_AHEAD // (160 * 56 * 56 * 3)
    assert windows_per_packet(2, window) == 4
    assert windows_per_packet(6, window) == 6  # more than is sent ahead, yet of one step


def packet(first: int, segments: int, windows: int = 2) -> dict[str, np.ndarray]:
    return {
        "position": np.arange(first, first + windows),
        "segments_frames": np.full((windows, segments, 2), float(first), np.float32),
        "labels": np.full((windows, segments), first),
    }


def test_joined_packets_keep_their_order_and_are_padded_to_the_longest():
    batches = list(cut_batches([packet(0, 1), packet(2, 3), packet(4, 2), packet(6, 2)], share=4))
    assert [batch["position"].tolist() for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert batches[0]["labels"].tolist() == [[0, -1, -1], [0, -1, -1], [2, 2, 2], [2, 2, 2]]
    assert batches[0]["segments_frames"].shape == (4, 3, 2)
    assert batches[1]["labels"].shape == (4, 2)


def test_packets_of_several_steps_are_cut_into_them():
    batches = list(cut_batches([packet(0, 1, windows=6), packet(6, 2, windows=2)], share=2))
    assert [batch["position"].tolist() for batch in batches] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert [batch["labels"].shape for batch in batches] == [(2, 1)] * 3 + [(2, 2)]


def test_a_stream_that_ends_inside_a_batch_is_not_passed_over_and_no_fault_of_the_code():
    with pytest.raises(RuntimeError, match="2 of 4 windows came") as lost:
        list(cut_batches([packet(0, 1)], share=4))
    assert not isinstance(lost.value, CODE_ERRORS)  # or the training would not be tried again
