"""The temporal adapter against a loop over steps."""

import torch
import torch.nn.functional as F

from tadscale.models.backbones.vit.adapter import TemporalAdapter

BATCH, CLIPS, STEPS, PLACES, DIM = 2, 3, 2, 4, 8


def tokens():
    return torch.randn(BATCH * CLIPS, STEPS * PLACES, DIM, generator=torch.Generator().manual_seed(0))


def test_it_begins_as_the_identity():
    torch.manual_seed(0)
    assert torch.equal(TemporalAdapter(DIM)(tokens(), BATCH, PLACES), tokens())


def test_a_place_sees_itself_in_the_steps_before_and_after_over_the_whole_window():
    torch.manual_seed(0)
    adapter = TemporalAdapter(DIM)
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    with torch.no_grad():
        found = adapter(tokens(), BATCH, PLACES).view(BATCH, CLIPS * STEPS, PLACES, DIM)
        window = tokens().view(BATCH, CLIPS * STEPS, PLACES, DIM)
        inner = F.gelu(adapter.down(window))
        kernel = adapter.over_time.weight[:, 0]  # [I, 3]
        for step in range(CLIPS * STEPS):
            seen = adapter.over_time.bias.expand(BATCH, PLACES, -1)
            for k, other in enumerate((step - 1, step, step + 1)):
                if 0 <= other < CLIPS * STEPS:
                    seen = seen + kernel[:, k] * inner[:, other]
            mixed = seen @ adapter.over_channels.weight[..., 0].T + adapter.over_channels.bias
            expected = window[:, step] + adapter.up(inner[:, step] + mixed)
            torch.testing.assert_close(found[:, step], expected)
