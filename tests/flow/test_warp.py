"""Pyramids, gradients and warping against what they must do to simple pictures."""

import pytest
import torch

from tadscale.flow.warp import pyramid, resize_flow, spatial_gradient, warp


def test_warp_by_whole_pixels_is_a_shift():
    source = torch.rand(2, 3, 12, 17, dtype=torch.float64)
    flow = torch.tensor([3.0, -2.0], dtype=torch.float64).view(2, 1, 1, 1).expand(2, 2, 12, 17)
    warped, inside = warp(source, flow)
    torch.testing.assert_close(warped[:, :, 2:, :-3], source[:, :, :-2, 3:])
    assert inside[:, 2:, :-3].all() and not inside[:, :2].any() and not inside[:, :, -3:].any()


def test_warp_between_pixels_is_bilinear():
    y, x = torch.meshgrid(torch.arange(10.0), torch.arange(8.0), indexing="ij")
    plane = (2 * x + 5 * y)[None, None]
    flow = torch.tensor([0.25, 0.5]).view(2, 1, 1, 1).expand(2, 1, 10, 8)
    warped, inside = warp(plane, flow)
    torch.testing.assert_close(warped[:, 0][inside], (plane + 2 * 0.25 + 5 * 0.5)[:, 0][inside])


def test_gradient_of_a_plane():
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(9.0), indexing="ij")
    gradient = spatial_gradient((2 * x - 3 * y)[None])
    assert (gradient[0, :, :, 1:-1] == 2).all() and (gradient[1, :, 1:-1] == -3).all()


@pytest.mark.parametrize(
    ("size", "expected"),
    [((64, 96), [(64, 96), (32, 48), (16, 24), (8, 12)]), ((33, 21), [(33, 21), (17, 11)]), ((9, 9), [(9, 9)])],
)
def test_pyramid_halves_until_the_picture_is_small(size, expected):
    assert [tuple(level.shape[-2:]) for level in pyramid(torch.rand(1, *size), 10)] == expected


def test_pyramid_stops_at_its_levels_and_keeps_the_mean():
    levels = pyramid(torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(0)), 2)
    assert len(levels) == 2
    assert levels[1].mean().item() == pytest.approx(levels[0].mean().item(), abs=2e-3)


def test_resized_flow_points_to_the_same_place():
    flow = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1).expand(2, 3, 8, 10)
    resized = resize_flow(flow, 24, 20)
    assert resized.shape == (2, 3, 24, 20)
    assert (resized[0] == 2).all() and (resized[1] == 6).all()
