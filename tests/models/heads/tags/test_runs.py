"""Segments read off masks, against a loop over snippets."""

import pytest
import torch

from tadscale.models.heads.tags.runs import best_of_equal, runs_around


def slow_run(mask: list[float], snippet: int, threshold: float) -> tuple[float, float, float] | None:
    """Start and end of the run that holds the snippet, and its IoU with the mask; walks outward step by step."""
    if mask[snippet] <= threshold:
        return None
    first = last = snippet
    while first > 0 and mask[first - 1] > threshold:
        first -= 1
    while last < len(mask) - 1 and mask[last + 1] > threshold:
        last += 1
    below, above = (mask[first - 1] if first else 0.0), (mask[last + 1] if last + 1 < len(mask) else 0.0)
    start = first - (mask[first] - threshold) / (mask[first] - below)
    end = last + (mask[last] - threshold) / (mask[last] - above)
    run = [float(first <= step <= last) for step in range(len(mask))]
    shared = sum(min(pair) for pair in zip(run, mask, strict=True))
    return max(start, 0.0), end, shared / sum(max(pair) for pair in zip(run, mask, strict=True))


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_runs_equal_a_slow_loop(threshold):
    masks = torch.rand(3, 17, 17, generator=torch.Generator().manual_seed(0)).double().sqrt()
    runs = runs_around(masks, threshold)
    found = 0
    for b in range(3):
        for t in range(17):
            expected = slow_run(masks[b, t].tolist(), t, threshold)
            if expected is None:
                assert runs.overlaps[b, t] == 0
            else:
                found += 1
                assert runs.segments[b, t].tolist() == pytest.approx(expected[:2])
                assert runs.overlaps[b, t].item() == pytest.approx(expected[2])
    assert 10 < found < 3 * 17


def test_a_mask_of_zeros_and_ones_has_the_ends_of_its_steps():
    masks = torch.zeros(1, 10, 10)
    masks[0, 5, 3:7] = 1.0
    assert runs_around(masks, 0.5).segments[0, 5].tolist() == [2.5, 6.5]


def test_another_run_of_the_same_mask_is_left_out():
    masks = torch.zeros(1, 10, 10)
    masks[0, 1, [0, 1, 2, 6, 7, 8, 9]] = 1.0
    runs = runs_around(masks, 0.5)
    assert runs.segments[0, 1].tolist() == [0.0, 2.5]
    assert runs.overlaps[0].tolist() == pytest.approx([0.0, 3 / 7, *[0.0] * 8])


@pytest.mark.parametrize("boundary", [9.0, 9.3, 9.5, 9.7])
def test_a_share_of_a_step_moves_the_boundary(boundary):
    """A mask that holds how much of each step is covered tells the boundary to a tenth of a step."""
    steps = torch.arange(20.0)
    cover = (torch.tensor(15.5).minimum(steps + 0.5) - torch.tensor(boundary).maximum(steps - 0.5)).clamp(0, 1)
    start, end = runs_around(cover.expand(1, 20, 20), 0.5).segments[0, 12].tolist()
    assert start == pytest.approx(boundary, abs=0.1)
    assert end == pytest.approx(15.5)


def test_of_equal_runs_the_best_remains():
    generator = torch.Generator().manual_seed(0)
    steps = torch.randint(-1, 2, (2, 12, 2), generator=generator)
    steps[..., 1] += 4  # -1 and 5 are beyond the window
    quality = torch.randint(0, 4, (2, 12), generator=generator).float()  # equals occur
    kept = best_of_equal(steps, quality, length=5)
    for b in range(2):
        best: dict[tuple[int, int], int] = {}
        for t in range(12):
            run = (int(steps[b, t, 0]), int(steps[b, t, 1]))
            if run not in best or quality[b, t] > quality[b, best[run]]:
                best[run] = t
        assert kept[b].nonzero().flatten().tolist() == sorted(best.values())
