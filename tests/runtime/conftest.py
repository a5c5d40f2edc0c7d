"""A tiny data set, a tiny network, and one Ray instance for all tests of the cluster's side."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tadscale.data.shards import write_shards
from tadscale.data.sprites import SpritesConfig, draw_videos
from tadscale.data.windows import WindowConfig
from tadscale.engine.optim import OptimConfig
from tadscale.flow.motion import MotionConfig
from tadscale.models.backbones import BackboneConfig
from tadscale.models.config import ModelConfig
from tadscale.models.heads import HeadConfig
from tadscale.models.heads.actionformer import ActionFormerConfig
from tadscale.runtime.cluster.capacity import ENVIRONMENT, ClusterConfig
from tadscale.runtime.stage.spec import StageSpec

WINDOW = WindowConfig(frames=16, stride_frames=8, fps=5.0, height=32, width=32)
TWO_WORKERS = ClusterConfig(workers=2, cpus_per_worker=0.5, cpus_per_fetch=1.0, cpus_per_motion=0.5, max_failures=2)
ONE_WORKER = TWO_WORKERS.model_copy(update={"workers": 1})


def save_untrained(spec: StageSpec, folder: Path, seed: int) -> str:
    """Weights of a network of the stage's kind, as training would leave them, but untrained."""
    import torch

    from tadscale.data.manifest import read_manifest
    from tadscale.data.motion_identity import motion_fingerprint
    from tadscale.network import NetworkSpec, build_network, save_network

    torch.manual_seed(seed)
    classes = read_manifest(spec.data_url).classes
    described = NetworkSpec(
        mode=spec.mode,
        model=spec.model,
        classes=classes,
        window=spec.window,
        motion=spec.motion,
        motion_fingerprint=motion_fingerprint(spec.motion),
        plan_digest="",
        manifest_digest="",
    )
    network = build_network(spec.mode, spec.model, len(classes), spec.motion)
    save_network(str(folder), described, network.state_dict())
    return str(folder)


@pytest.fixture(scope="package")
def cluster() -> Iterator[None]:
    """Ray on this machine, shared by all tests that need it."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        ray.init(
            address="local",
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=300 << 20,
        )
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield
        ray.shutdown()


@pytest.fixture(scope="package")
def sprites(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Videos of 32x32 pixels and 6 s: 10 to train on, 3 to test on."""
    folder = tmp_path_factory.mktemp("sprites")
    config = SpritesConfig(train=10, validation=0, test=3, duration_s=6.0, size=32)
    write_shards(draw_videos(config), str(folder), videos_per_shard=6)
    return str(folder)


@pytest.fixture(scope="package")
def make_spec(sprites: str) -> Callable[..., StageSpec]:
    """A stage of seconds: 30 windows an epoch, 8 global batches of 4 with 2 slots empty."""

    def make(run: Path, **changes: Any) -> StageSpec:
        head = ActionFormerConfig(dim=8, levels=2, heads=2, stem_blocks=1)
        fields: dict[str, Any] = {
            "mode": "baseline",
            "run_url": str(run),
            "data_url": sprites,
            "window": WINDOW,
            "optim": OptimConfig(epochs=3, global_batch=4, warmup_epochs=0.5),
            "model": ModelConfig(backbone=BackboneConfig(width=4), dim=8, head=HeadConfig(actionformer=head)),
            "motion": MotionConfig(name="temporal_gradient_fast"),
            "checkpoint_every_steps": 5,
        }
        return StageSpec(**(fields | changes))

    return make
