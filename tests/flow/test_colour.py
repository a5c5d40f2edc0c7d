"""Motion as pictures."""

import math

import pytest
import torch

from tadscale.flow.colour import colour_wheel, flow_colours, motion_colours


def _slow_pixel(u: float, v: float) -> list[int]:
    """The published wheel (Baker et al. 2011) for one vector, one number at a time."""
    wheel = []
    for steps, rising, falling in (
        (15, 1, None),
        (6, None, 0),
        (4, 2, None),
        (11, None, 1),
        (13, 0, None),
        (6, None, 2),
    ):
        corner = {0: [1, 0, 0], 15: [1, 1, 0], 21: [0, 1, 0], 25: [0, 1, 1], 36: [0, 0, 1], 49: [1, 0, 1]}[len(wheel)]
        for i in range(steps):
            colour = list(corner)
            if rising is not None:
                colour[rising] = i / steps
            else:
                colour[falling] = 1 - i / steps
            wheel.append(colour)
    length, place = math.hypot(u, v), (math.atan2(-v, -u) / math.pi + 1) / 2 * 54
    low = int(place)
    hue = [wheel[low][c] * (1 - place + low) + wheel[(low + 1) % 55][c] * (place - low) for c in range(3)]
    return [int(255 * (1 - length * (1 - h) if length <= 1 else 0.75 * h)) for h in hue]


def test_flow_has_the_published_colours():
    torch.manual_seed(0)
    flow = torch.randn(2, 2, 5, 7) * 0.7
    colours = flow_colours(flow)
    for t in range(2):
        for y in range(5):
            for x in range(7):
                expected = _slow_pixel(*flow[t, :, y, x].tolist())
                assert (colours[t, y, x].int() - torch.tensor(expected)).abs().max() <= 1  # float32 and float64


def test_the_wheel_has_55_different_hues():
    assert len(torch.unique(colour_wheel(), dim=0)) == 55


@pytest.mark.parametrize(("u", "v", "rgb"), [(0, 0, (255, 255, 255)), (1, 0, (255, 0, 0)), (0, 0.5, (255, 246, 127))])
def test_rest_is_white_right_is_red_down_is_yellow(u, v, rgb):
    colour = flow_colours(torch.tensor([u, v]).float().view(1, 2, 1, 1))[0, 0, 0]
    assert (colour.int() - torch.tensor(rgb)).abs().max() <= 12


def test_strength_is_relative_to_the_window_unless_it_is_given():
    motion = torch.zeros(2, 3, 8, 8)
    motion[0, :, :, :4] = 0.1
    assert motion_colours(motion)[0, 0, 0, 1] < 15  # the largest motion of the window is drawn in full red
    assert motion_colours(motion, full=1.0)[0, 0, 0, 1] > 220


def test_gradients_are_grey_where_nothing_changes():
    motion = torch.zeros(3, 2, 4, 4)
    motion[1, 1] = 0.5
    picture = motion_colours(motion)
    assert picture.shape == (2, 4, 4, 3)
    assert picture[0].unique().tolist() == [127]
    assert picture[1, 0, 0].tolist() == [127, 255, 127]


def test_refuses_what_is_not_motion():
    with pytest.raises(ValueError, match="2 channels"):
        motion_colours(torch.zeros(4, 2, 8, 8))
