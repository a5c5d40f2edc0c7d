"""MobileNetV2 on single pictures out of torch's parts alone, in torchvision's names: what ours is compared with."""

from collections import OrderedDict

from torch import nn

# Of every block: input channels, hidden, output, stride. Written out from Sandler et al., Table 2.
BLOCKS = [
    (32, 32, 16, 1),
    (16, 96, 24, 2),
    (24, 144, 24, 1),
    (24, 144, 32, 2),
    (32, 192, 32, 1),
    (32, 192, 32, 1),
    (32, 192, 64, 2),
    (64, 384, 64, 1),
    (64, 384, 64, 1),
    (64, 384, 64, 1),
    (64, 384, 96, 1),
    (96, 576, 96, 1),
    (96, 576, 96, 1),
    (96, 576, 160, 2),
    (160, 960, 160, 1),
    (160, 960, 160, 1),
    (160, 960, 320, 1),
]


class Plain(nn.Module):
    """`[N, 3, H, W]`, sides multiples of 32, to `[N, 1280, H / 32, W / 32]`. In evaluation mode from the start."""

    def __init__(self, padding: str) -> None:
        super().__init__()
        self.padding = padding
        layers = [nn.Sequential(*self._three_by_three(3, 32, 2, 1), nn.ReLU6())]
        layers += [self._block(*shape) for shape in BLOCKS]
        layers += [nn.Sequential(nn.Conv2d(320, 1280, 1, bias=False), nn.BatchNorm2d(1280), nn.ReLU6())]
        self.features = nn.Sequential(*layers)
        self.eval()

    def forward(self, x):
        for layer in self.features:
            block = isinstance(layer, nn.ModuleDict)
            y = layer["conv"](x) if block else layer(x)
            x = x + y if block and x.shape == y.shape else y
        return x

    def _block(self, channels, hidden, out, stride):
        parts = []
        if hidden != channels:
            parts += [nn.Sequential(nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6())]
        parts += [nn.Sequential(*self._three_by_three(hidden, hidden, stride, hidden), nn.ReLU6())]
        parts += [nn.Conv2d(hidden, out, 1, bias=False), nn.BatchNorm2d(out)]
        return nn.ModuleDict({"conv": nn.Sequential(*parts)})

    def _three_by_three(self, channels, out, stride, groups):
        if stride == 1 or self.padding == "torch":
            conv = nn.Conv2d(channels, out, 3, stride, padding=1, groups=groups, bias=False)
        else:
            conv = _PaddedRightAndBelow(channels, out, 3, stride, groups=groups, bias=False)
        return [conv, nn.BatchNorm2d(out)]


class _PaddedRightAndBelow(nn.Conv2d):
    def forward(self, x):
        return super().forward(nn.ZeroPad2d((0, 1, 0, 1))(x))


def with_classifier(classes: int = 1000) -> nn.Module:
    """The whole published network, for its size."""
    plain = Plain("torch")
    return nn.Sequential(OrderedDict(features=plain.features, classifier=nn.Linear(1280, classes)))
