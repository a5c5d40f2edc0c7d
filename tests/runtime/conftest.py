"""A tiny data set, a tiny network, and one Ray instance for all tests of the cluster's side."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tadscale.data.config import DataConfig
from tadscale.data.shards import write_shards
from tadscale.data.sprites import SpritesConfig, draw_videos
from tadscale.data.windows import WindowConfig
from tadscale.engine.optim import OptimConfig
from tadscale.flow.motion import MotionConfig
from tadscale.models.backbones.small3d import Small3dConfig
from tadscale.models.config import ModelConfig
from tadscale.models.heads.actionformer.network import ActionFormerConfig
from tadscale.network import Mode
from tadscale.runtime.cluster.capacity import ENVIRONMENT, ClusterConfig
from tadscale.runtime.cluster.patient_start import patient_start
from tadscale.runtime.stage.job import JobConfig
from tadscale.runtime.stage.result import StageResult
from tadscale.runtime.stage.spec import Stage, stage_of
from tadscale.runtime.stage.stopwatch import TimeSplit

WINDOW = WindowConfig(frames=16, stride_frames=8, fps=5.0, height=32, width=32)
TWO_WORKERS = ClusterConfig(
    workers=2, cpus_per_worker=0.5, cpus_per_fetch=1.0, cpus_per_motion=0.5, max_failures=2, data_plane="ray"
)
ONE_WORKER = TWO_WORKERS.model_copy(update={"workers": 1})


def save_untrained(stage: Stage, folder: Path, seed: int) -> str:
    """Weights of a network of the stage's kind, as training would leave them, but untrained."""
    import torch

    from tadscale.data.manifest import read_manifest
    from tadscale.network import save_network

    torch.manual_seed(seed)
    described = stage.network(read_manifest(stage.job.data.url).classes)
    save_network(str(folder), described, described.build().state_dict())
    return str(folder)


def result_of(url: str, **changes: Any) -> StageResult:
    """What a stage that was finished under a URL reports; what is not changed means nothing."""
    facts = {"steps": 8, "losses": {}, "quarantined": 0, "seconds": TimeSplit(), "restarts": 0}
    digests = {"plan_digest": "p", "manifest_digest": "m", "network_sha256": "n"}
    return StageResult.model_validate({"url": url} | facts | digests | changes)


def finish(stage: Stage, plan_digest: str = "", kept_epochs: tuple[int, ...] = ()) -> StageResult:
    """Leave what a finished stage does, of a network that learned nothing."""
    from tadscale.network import spec_digest
    from tadscale.runtime.stage.plan_spec import open_plan
    from tadscale.runtime.training.resume import note_identity, note_result

    save_untrained(stage, Path(stage.weights_url), seed=1)
    for epoch in kept_epochs:
        save_untrained(stage, Path(stage.epoch_url(epoch)), seed=epoch)
    Path(stage.log_url).write_text('{"step": 8}\n')
    Path(stage.quarantine_url).write_text("")
    note_identity(stage)
    result = result_of(
        stage.url,
        plan_digest=plan_digest or open_plan(stage.plan)[1].digest,
        network_sha256=spec_digest(stage.weights_url),
        kept_epochs={epoch: spec_digest(stage.epoch_url(epoch)) for epoch in kept_epochs},
    )
    note_result(stage, result)
    return result


def changed(stage: Stage, **changes: Any) -> Stage:
    """The stage of a job with other settings; `data` is a part of its section, the others are whole ones."""
    return stage_of(_updated(stage.job, **changes), stage.mode, stage.teacher_url)


def _updated(job: JobConfig, data: dict[str, Any] | None = None, **changes: Any) -> JobConfig:
    return job.model_copy(update={"data": job.data.model_copy(update=data or {}), **changes})


@pytest.fixture(scope="package")
def cluster() -> Iterator[None]:
    """Ray on this machine, shared by all tests that need it."""
    import ray

    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        with patient_start():
            ray.init(
                address="local",
                num_cpus=4,
                resources={
                    "data": 4.0,
                    "motion": 4.0,
                    "train": 4.0,
                },  # for those who keep their parts on nodes of their own
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
def make_stage(sprites: str) -> Callable[..., Stage]:
    """A stage of seconds: 30 windows an epoch, 8 global batches of 4 with 2 slots empty."""
    head = ActionFormerConfig(dim=8, levels=2, heads=2, stem_blocks=1)

    def make(run: Path, mode: Mode = "baseline", teacher_url: str | None = None, **changes: Any) -> Stage:
        job = JobConfig(
            kind="distill",
            name=run.name,
            storage=str(run.parent),
            data=DataConfig(url=sprites, window=WINDOW),
            optim=OptimConfig(epochs=3, global_batch=4, warmup_epochs=0.5),
            model=ModelConfig(backbone=Small3dConfig(width=4), dim=8, head=head),
            motion=MotionConfig(name="temporal_gradient_fast"),
            checkpoint_every_steps=5,
            cluster=ONE_WORKER,
        )
        return stage_of(_updated(job, **changes), mode, teacher_url)

    return make
