"""Other input channels: against slow loops, and by what they promise of the network's answer."""

import pytest
import torch
import torch.nn.functional as F

from tadscale.models.backbones.published.adapt import adapt_input_channels

WEIGHT = torch.randn(4, 3, 5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_input_channels_against_loops(channels):
    expected = torch.empty(4, channels, 5, 2, dtype=torch.float64)
    for out in range(4):
        for y in range(5):
            for x in range(2):
                mean = sum(WEIGHT[out, channel, y, x] for channel in range(3)) / 3
                for channel in range(channels):
                    expected[out, channel, y, x] = mean * 3 / channels
    torch.testing.assert_close(adapt_input_channels(WEIGHT, channels), expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_equal_channels_are_answered_as_before(channels):
    grey = torch.randn(1, 1, 8, 7, dtype=torch.float64)
    answer = F.conv2d(grey.expand(-1, channels, -1, -1), adapt_input_channels(WEIGHT, channels))
    torch.testing.assert_close(answer, F.conv2d(grey.expand(-1, 3, -1, -1), WEIGHT))


def test_as_many_channels_keep_what_each_has_learned():
    assert torch.equal(adapt_input_channels(WEIGHT, 3), WEIGHT)


def test_the_result_may_be_written_to():
    adapt_input_channels(WEIGHT, 2).add_(1)  # fails on an expanded view


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 1, 5, 2, 2)])
def test_what_is_no_convolution_is_refused(shape):
    with pytest.raises(ValueError, match="weight of 4 or 5 dimensions is wanted"):
        adapt_input_channels(torch.zeros(shape), 2)


def test_no_channels_are_refused():
    with pytest.raises(ValueError, match="at least one channel"):
        adapt_input_channels(WEIGHT, 0)
