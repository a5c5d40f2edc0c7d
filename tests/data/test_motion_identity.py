"""Motion is told apart by what it is made of, and not by where that lies."""

import shutil

import safetensors.torch
import torch

from tadscale.data.motion_identity import motion_fingerprint
from tadscale.data.shards import write_shards
from tadscale.data.sprites import SpritesConfig, draw_videos
from tadscale.flow.motion import MotionConfig
from tadscale.flow.raft import RaftConfig
from tadscale.flow.raft_network import RaftNetwork


def shards(folder, videos):
    drawn = draw_videos(SpritesConfig(train=videos, validation=0, test=0, duration_s=2.0, size=32))
    write_shards(drawn, str(folder))
    return MotionConfig(name="precomputed", flow_url=str(folder))


def weights(path, seed):
    torch.manual_seed(seed)
    safetensors.torch.save_file(RaftNetwork("small").state_dict(), path)
    return MotionConfig(name="raft", raft=RaftConfig(weights=str(path)))


def test_flow_shards_are_their_videos(tmp_path):
    one, other = shards(tmp_path / "one", 1), shards(tmp_path / "other", 2)
    assert motion_fingerprint(one) != motion_fingerprint(other)
    before = motion_fingerprint(one)
    shutil.move(tmp_path / "one", tmp_path / "moved")
    assert motion_fingerprint(MotionConfig(name="precomputed", flow_url=str(tmp_path / "moved"))) == before


def test_a_network_is_its_weights(tmp_path):
    one, other = (weights(tmp_path / f"{seed}.safetensors", seed) for seed in (0, 1))
    assert motion_fingerprint(one) != motion_fingerprint(other)
    shutil.copy(tmp_path / "0.safetensors", tmp_path / "1.safetensors")
    assert motion_fingerprint(one) == motion_fingerprint(other)


def test_other_methods_are_their_parameters():
    assert motion_fingerprint(MotionConfig(name="dis")) != motion_fingerprint(MotionConfig(name="dis", clip_px=3))
