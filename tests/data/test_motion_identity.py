"""Motion is told apart by what it is made of, and not by where that lies."""

import shutil

import safetensors.torch
import torch

from tadscale.data.flow_shards import write_flow
from tadscale.data.manifest import read_manifest
from tadscale.data.motion_identity import motion_fingerprint
from tadscale.data.quarantine import QuarantineLedger
from tadscale.data.shards import write_shards
from tadscale.data.sprites import SpritesConfig, draw_videos
from tadscale.data.windows import WindowConfig
from tadscale.flow.motion import MotionConfig, build_motion
from tadscale.flow.raft.config import RaftConfig
from tadscale.flow.raft.network import RaftNetwork

WINDOW = WindowConfig(frames=16, stride_frames=16, fps=5.0, height=32, width=32)


def shards(folder, videos):
    drawn = draw_videos(SpritesConfig(train=videos, validation=0, test=0, duration_s=2.0, size=32))
    write_shards(drawn, str(folder), overwrite=True)
    return MotionConfig(name="precomputed", flow_url=str(folder))


def weights(path, seed):
    torch.manual_seed(seed)
    safetensors.torch.save_file(RaftNetwork("small").state_dict(), path)
    return MotionConfig(name="raft", raft=RaftConfig(weights=str(path)))


def test_shards_that_do_not_say_what_made_them_are_their_videos(tmp_path):
    one, other = shards(tmp_path / "one", 1), shards(tmp_path / "other", 2)
    assert motion_fingerprint(one) != motion_fingerprint(other)
    before = motion_fingerprint(one)
    shutil.move(tmp_path / "one", tmp_path / "moved")
    assert motion_fingerprint(MotionConfig(name="precomputed", flow_url=str(tmp_path / "moved"))) == before


def test_flow_shards_are_what_made_them(tmp_path):
    def flow_of(videos, **settings):
        data = shards(tmp_path / f"data-{videos}", videos).flow_url
        folder = str(tmp_path / f"flow-{videos}-{len(settings)}")
        made = build_motion(MotionConfig(name="dis", **settings))
        write_flow(read_manifest(data), folder, made, WINDOW, device="cpu", ledger=QuarantineLedger(), overwrite=True)
        return motion_fingerprint(MotionConfig(name="precomputed", flow_url=folder))

    few = flow_of(1)
    assert flow_of(2) == few  # videos have been added since
    assert flow_of(1, clip_px=3.0) != few
    assert few.startswith("precomputed(8 bits) of dis(preset=medium)") and few.endswith("32x32 at 5 fps")


def test_a_network_is_its_weights(tmp_path):
    one, other = (weights(tmp_path / f"{seed}.safetensors", seed) for seed in (0, 1))
    assert motion_fingerprint(one) != motion_fingerprint(other)
    shutil.copy(tmp_path / "0.safetensors", tmp_path / "1.safetensors")
    assert motion_fingerprint(one) == motion_fingerprint(other)


def test_other_methods_are_their_parameters():
    assert motion_fingerprint(MotionConfig(name="dis")) != motion_fingerprint(MotionConfig(name="dis", clip_px=3))
