"""RAFT (Teed and Deng, ECCV 2020) as a motion modality: learned optical flow, from weights in a local file."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tadscale.errors import UserError
from tadscale.flow.estimator import check_pairs
from tadscale.flow.raft.config import PUBLISHED, RaftConfig
from tadscale.flow.raft.layout import torchvision_name
from tadscale.flow.raft.network import RaftNetwork
from tadscale.flow.raft.operations import MIN_SIDE_PX, STRIDE
from tadscale.weights import match_weights, read_weights

CHUNK_BYTES = 1 << 30
PIXEL_BYTES = 1024  # of a pair, at the peak, for maps of half size in the encoders: 700 measured with `large` on a CPU


class Raft:
    """RAFT optical flow: recurrent updates of a flow field from all-pairs correlations of learned features.

    The network was trained on colour pictures and sees grey ones here, the same in all three channels. Frames are padded
    to multiples of 8 px by repeating their borders, as the authors do.

    Args:
        config: see `RaftConfig`.

    Raises:
        UserError: no weights are named, the file is not there or not readable as weights, or they are another network's.
    """

    def __init__(self, config: RaftConfig) -> None:
        self.config = config
        self._network, self._sha256 = load_network(config)

    @torch.no_grad()
    def flow(self, frames_a: Tensor, frames_b: Tensor) -> Tensor:
        """See `FlowEstimator.flow`. Computes on the frames' device, where the network then stays, in float32.

        Raises:
            UserError: frames of another shape, or below 128 px a side.
        """
        check_pairs(frames_a, frames_b, min_side_px=1)
        count, height, width = frames_a.shape
        _check_size(height, width)
        network = self._network.to(frames_a.device)
        chunk = max(1, CHUNK_BYTES // _bytes_a_pair(height, width))
        out = torch.empty(count, 2, height, width, dtype=torch.float32, device=frames_a.device)
        top, left = _padding(height)[0], _padding(width)[0]
        for start in range(0, count, chunk):
            part = slice(start, start + chunk)
            flow = network(_as_input(frames_a[part]), _as_input(frames_b[part]), self.config.updates)  # [n, 2, H', W']
            out[part] = flow[..., top : top + height, left : left + width]
        return out

    def fingerprint(self) -> str:
        """See `RaftConfig.fingerprint`: of the weights that were read, whatever has become of the file."""
        return self.config.fingerprint(self._sha256)


def load_network(config: RaftConfig) -> tuple[RaftNetwork, str]:
    """The network with its weights, on the CPU, in eval mode and without gradients; and the SHA-256 of the file.

    Raises:
        UserError: see `Raft`.
    """
    weights = read_weights(config.weights_bytes(), str(config.weights), f"motion.raft.weights {config.weights}")
    with torch.device("meta"):  # draws no random numbers: the caller's random state is left as it was
        network = RaftNetwork(config.variant)
    match = match_weights(network, weights.tensors, torchvision_name)
    if not match.complete:
        raise UserError(
            f"motion.raft.weights {config.weights} are not those of RAFT {config.variant}: {match.problems()}. They are "
            "perhaps of the other variant, or of a network that is not RAFT: set motion.raft.variant, or give "
            f"torchvision's {PUBLISHED[config.variant]}"
        )
    floats = {name: value.float() if value.is_floating_point() else value for name, value in match.tensors.items()}
    network.load_state_dict(floats, assign=True)
    return network.eval().requires_grad_(False), weights.sha256


def _check_size(height: int, width: int) -> None:
    if min(height, width) < MIN_SIDE_PX:
        raise UserError(
            f"RAFT needs frames of at least {MIN_SIDE_PX} px a side, got {height} x {width} (height x width): at 1/8 of "
            "their size they would vanish from its correlation pyramid; decode larger frames, or use motion tvl1 or dis"
        )


def _as_input(grey: Tensor) -> Tensor:
    """Grey frames `[n, H, W]` in [0, 255] -> `[n, 3, H', W']` float32 in [-1, 1], padded to multiples of 8."""
    height, width = grey.shape[-2:]
    scaled = grey[:, None].float() / 127.5 - 1  # [n, 1, H, W]
    padded = F.pad(scaled, (*_padding(width), *_padding(height)), mode="replicate")  # [n, 1, H', W']
    return padded.expand(-1, 3, -1, -1)


def _padding(size: int) -> tuple[int, int]:
    """Pixels to add before and after, so that the picture stays in the middle."""
    missing = -size % STRIDE
    return missing // 2, missing - missing // 2


def _bytes_a_pair(height: int, width: int) -> int:
    """Memory that a pair of frames takes: maps in proportion to its pixels, and correlations to their square."""
    positions = -(-height // STRIDE) * -(-width // STRIDE)
    return PIXEL_BYTES * height * width + 8 * positions**2
