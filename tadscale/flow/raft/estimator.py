"""RAFT (Teed and Deng, ECCV 2020) as a motion modality: learned optical flow, from weights in a local file."""

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from tadscale.config import Config
from tadscale.flow.estimator import check_pairs
from tadscale.flow.raft.network import RaftNetwork, Variant
from tadscale.flow.raft.operations import MIN_SIDE_PX, STRIDE

REVISION = 1  # to be raised when a change to the code changes the flow: it is part of the fingerprint
PUBLISHED: dict[Variant, str] = {
    "small": "raft_small_C_T_V2-01064c6d.pth",
    "large": "raft_large_C_T_SKHT_V2-ff5fadd5.pth",
}
DIGEST_DIGITS = 16
NAMED_PROBLEMS = 3
CHUNK_BYTES = 1 << 30
PIXEL_BYTES = 1024  # of a pair, at the peak, for maps of half size in the encoders: 700 measured with `large` on a CPU


class RaftConfig(Config):
    """Settings of RAFT optical flow."""

    variant: Variant = "small"
    """`small`: 1.0 million parameters. `large`: 5.3 million, more exact, three times the time (on a CPU)."""
    weights: str | None = None
    """Path of the weights, a `.pth` or `.safetensors` file with torchvision's names, on every machine that computes motion
    and where the job is started.
    torchvision publishes `raft_small_C_T_V2-01064c6d.pth` and `raft_large_C_T_SKHT_V2-ff5fadd5.pth`. Nothing is
    downloaded."""
    updates: int = Field(default=12, ge=1)
    """How often the flow is updated. The weights were trained with 12; fewer are faster and less exact."""

    def weights_path(self) -> Path:
        """Where the weights are. Raises a ValueError where none are named; does not look for the file."""
        if self.weights is None:
            raise ValueError(
                "RAFT needs trained weights, and motion.raft.weights is not set: give it the path of torchvision's "
                f"{PUBLISHED[self.variant]} on this machine (nothing is downloaded), or use motion tvl1, which needs none"
            )
        return Path(self.weights)


class Raft:
    """RAFT optical flow: recurrent updates of a flow field from all-pairs correlations of learned features.

    The network was trained on colour pictures and sees grey ones here, the same in all three channels. Frames are padded
    to multiples of 8 px by repeating their borders, as the authors do.

    Args:
        config: see `RaftConfig`.

    Raises:
        ValueError: no weights are named, the file is not there or not readable as weights, or they are another network's.
    """

    def __init__(self, config: RaftConfig) -> None:
        self.config = config
        self._network, self._digest = load_network(config)

    @torch.no_grad()
    def flow(self, frames_a: Tensor, frames_b: Tensor) -> Tensor:
        """See `FlowEstimator.flow`. Computes on the frames' device, where the network then stays, in float32.

        Raises:
            ValueError: frames of another shape, or below 128 px a side.
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
        """Variant, updates and weights: these by the digest of their file, wherever it lies."""
        weights = self._digest[:DIGEST_DIGITS]
        return f"raft/{REVISION}(variant={self.config.variant}, updates={self.config.updates}, weights={weights})"


def load_network(config: RaftConfig) -> tuple[RaftNetwork, str]:
    """The network with its weights, on the CPU, in eval mode and without gradients; and the SHA-256 of the file.

    Raises:
        ValueError: see `Raft`.
    """
    path = config.weights_path()
    if not path.is_file():
        raise ValueError(
            f"motion.raft.weights {path}: no such file here. Nothing is downloaded: on every machine that computes motion "
            f"put torchvision's {PUBLISHED[config.variant]} there, or a file of the same names and shapes"
        )
    data = path.read_bytes()
    tensors = _parse(path, data)
    with torch.device("meta"):  # draws no random numbers: the caller's random state is left as it was
        network = RaftNetwork(config.variant)
    _check_fit(tensors, network.state_dict(), config)
    floats = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    network.load_state_dict(floats, assign=True)
    return network.eval().requires_grad_(False), hashlib.sha256(data).hexdigest()


def _parse(path: Path, data: bytes) -> dict[str, Tensor]:
    """The tensors of a `.pth` or `.safetensors` file; a pickle is never let run code."""
    if path.suffix not in (".pth", ".safetensors"):
        raise ValueError(
            f"motion.raft.weights {path}: the name of a file of weights ends in .pth or .safetensors; give such a file"
        )
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load(data)
        tensors = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (safetensors.SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(
            f"motion.raft.weights {path} cannot be read as {path.suffix}: it is damaged, cut short or holds more than "
            f"tensors; copy it again ({error})"
        ) from error
    if not isinstance(tensors, Mapping) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError(f"motion.raft.weights {path} is no dictionary of tensors: save a network's state_dict() alone")
    return dict(tensors)


def _check_fit(tensors: dict[str, Tensor], wanted: dict[str, Tensor], config: RaftConfig) -> None:
    """Raise a ValueError unless names and shapes are the network's."""
    problems = [f"{name} is missing" for name in wanted if name not in tensors]
    problems += [f"{name} is unknown" for name in tensors if name not in wanted]
    problems += [
        f"{name} is {list(tensors[name].shape)}, not {list(value.shape)}"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - NAMED_PROBLEMS} more" if len(problems) > NAMED_PROBLEMS else ""
        raise ValueError(
            f"motion.raft.weights {config.weights} are not those of RAFT {config.variant}: "
            f"{', '.join(problems[:NAMED_PROBLEMS])}{more}. They are perhaps of the other variant, or have the names of the "
            f"authors' own code: set motion.raft.variant, or give torchvision's {PUBLISHED[config.variant]}"
        )


def _check_size(height: int, width: int) -> None:
    if min(height, width) < MIN_SIDE_PX:
        raise ValueError(
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
