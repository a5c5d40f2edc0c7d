"""Detections of a subset in one pass, against one network on one window after the other."""

import math
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from ray.exceptions import RayError

from tadscale.data.flow_shards import write_flow
from tadscale.data.flow_windows import load_flow
from tadscale.data.manifest import read_manifest
from tadscale.data.quarantine import QuarantineLedger
from tadscale.data.storage import read_range
from tadscale.data.windows import load_window, tile
from tadscale.flow.motion import MotionConfig, build_motion, window_motion
from tadscale.metrics.nms import NmsConfig
from tadscale.models.heads.objective import build_objective
from tadscale.network import InferenceConfig, load_network, save_network
from tadscale.runtime.cluster.capacity import ClusterConfig
from tadscale.segments import Detection
from tadscale.serving.path import DetectionPath
from tadscale.serving.predictor import Predictor
from tests.runtime.conftest import ONE_WORKER, WINDOW, save_untrained
from tests.runtime.pipeline.test_fetch import damage

INFERENCE = InferenceConfig(window_top_k=20, nms=NmsConfig(top_k=10))
FAST = MotionConfig(name="temporal_gradient_fast")
DIS = build_motion(MotionConfig(name="dis"))


@pytest.fixture(scope="module")
def networks(make_stage, sprites, tmp_path_factory) -> dict[str, str]:
    """Untrained networks of three modes, as weights."""
    folder = tmp_path_factory.mktemp("networks")
    stages = [make_stage(folder, mode=mode) for mode in ("teacher", "baseline", "decomposed")]
    return {stage.mode: save_untrained(stage, folder / stage.mode, seed) for seed, stage in enumerate(stages)}


@torch.inference_mode()
def slowly(
    urls: list[str], data_url: str, key: str, config: MotionConfig = FAST
) -> list[tuple[float, float, float, int]]:
    """One video's detections, window by window: start, end, score, class."""
    manifest = read_manifest(data_url).subset("test")
    index = [row.key for row in manifest.rows].index(key)
    found = []
    loaded = [load_network(url) for url in urls]
    spec = loaded[0][1]
    table = tile(manifest, spec.window)
    for window_id in np.flatnonzero(table.video == index):
        start, valid = int(table.start_frames[window_id]), int(table.valid_frames[window_id])
        window = load_window(manifest.row(index), start, valid, spec.window)
        mask = torch.from_numpy(window.mask)[None]
        outputs = []
        for network, described in loaded:
            flow_url = config.flow_url
            moving = load_flow(flow_url, key, start, valid, spec.window) if flow_url else window.frames
            motion = window_motion(build_motion(config), torch.from_numpy(moving)[None], [valid])
            seen = motion if described.reads_motion else torch.from_numpy(window.frames)[None]
            outputs.append(network.detect(seen, mask))
        head = loaded[0][0].head
        objective = build_objective(spec.model.head, len(spec.classes))
        output = objective.fuse(outputs) if len(outputs) > 1 else outputs[0]
        [decoded] = head.decode(output, top_k=INFERENCE.window_top_k, min_score=INFERENCE.nms.min_score)
        found.append((start, decoded))
    duration_s = manifest.row(index).duration_s
    merged = DetectionPath(spec.window, INFERENCE, spec.classes).merge(found, video=key, duration_s=duration_s)
    return [(row.start_s, row.end_s, row.score, spec.classes.index(row.label)) for row in merged]


@pytest.mark.usefixtures("cluster")
def test_one_pass_serves_several_candidates_and_their_fusion(networks, sprites, tmp_path):
    from tadscale.runtime.evaluation.detect_videos import detect_videos
    from tadscale.runtime.evaluation.video_pass import Candidate

    members = {
        "teacher": (networks["teacher"],),
        "rgb": (networks["baseline"],),
        "student": (networks["decomposed"],),
        "two streams": (networks["baseline"], networks["teacher"]),
    }
    candidates = [Candidate(name=name, weights_urls=urls) for name, urls in members.items()]
    data_url = damage(tmp_path / "data", "test-00001", sprites)
    where = {"data_url": data_url, "subset": "test"}
    result = detect_videos(candidates, **where, cluster=ONE_WORKER, inference=INFERENCE, motion=FAST)
    here = ONE_WORKER.model_copy(update={"data_plane": "embedded"})
    assert detect_videos(candidates, **where, cluster=here, inference=INFERENCE, motion=FAST) == result

    [failure] = result.failures
    assert failure.key == "test-00001"
    assert result.detections.keys() == members.keys()
    classes = read_manifest(sprites).classes
    for name, urls in members.items():
        found = result.detections[name]
        assert list(dict.fromkeys(one.video for one in found)) == ["test-00000", "test-00002"]
        for key in ("test-00000", "test-00002"):
            got = [(d.start_s, d.end_s, d.score, classes.index(d.label)) for d in found if d.video == key]
            expected = slowly(list(urls), sprites, key)
            assert len(got) == len(expected) == INFERENCE.nms.top_k
            for one, other in zip(got, expected, strict=True):
                assert all(math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-4) for a, b in zip(one, other, strict=True))


def _kill_at_work(killed: threading.Event) -> None:
    """Kill the first process of this one's cluster that runs networks, while it does."""
    while not killed.is_set():
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if "MapBatches(_Networks)).submit" in " ".join(process.cmdline()):
                    process.kill()
                    killed.set()
                    return
        time.sleep(0.001)


@pytest.mark.usefixtures("cluster")
def test_an_actor_that_dies_costs_its_video_again_and_none_that_lives_is_alarmed_about(
    networks, sprites, caplog, capfd
):
    from tadscale.runtime.evaluation.detect_videos import detect_videos
    from tadscale.runtime.evaluation.video_pass import Candidate

    candidates = [Candidate(name=mode, weights_urls=(url,)) for mode, url in networks.items()]
    where = {"data_url": sprites, "subset": "test", "inference": INFERENCE, "motion": FAST}
    undisturbed = detect_videos(candidates, **where, cluster=ONE_WORKER)
    assert "restart will fail" not in capfd.readouterr().err  # Ray's, of actors that it would restart
    assert "evaluation goes on" not in caplog.text
    killed = threading.Event()
    killer = threading.Thread(target=_kill_at_work, args=(killed,))
    killer.start()
    try:
        assert detect_videos(candidates, **where, cluster=ONE_WORKER) == undisturbed
        assert killed.is_set()
    finally:
        killed.set()
        killer.join()
    assert "evaluation goes on at video 1 of 3" in caplog.text


@pytest.mark.usefixtures("cluster")
def test_networks_that_cannot_be_loaded_are_not_tried_again(networks, sprites, tmp_path, caplog):
    from tadscale.runtime.evaluation.detect_videos import detect_videos
    from tadscale.runtime.evaluation.video_pass import Candidate

    url = shutil.copytree(networks["baseline"], tmp_path / "damaged")
    (url / "weights.safetensors").write_bytes(b"damaged")
    candidates = [Candidate(name="rgb", weights_urls=(str(url),))]
    with pytest.raises(RayError):
        detect_videos(candidates, data_url=sprites, subset="test", cluster=ONE_WORKER, inference=INFERENCE)
    assert "evaluation goes on" not in caplog.text


@pytest.mark.usefixtures("cluster")
def test_a_teacher_of_precomputed_flow_reads_it(make_stage, sprites, tmp_path):
    from tadscale.runtime.evaluation.detect_videos import detect_videos
    from tadscale.runtime.evaluation.video_pass import Candidate

    flow_url = str(tmp_path / "flow")
    write_flow(read_manifest(sprites), flow_url, DIS, WINDOW, device="cpu", ledger=QuarantineLedger())
    motion = MotionConfig(name="precomputed", flow_url=flow_url)
    teacher = save_untrained(make_stage(tmp_path, mode="teacher", motion=motion), tmp_path / "teacher", 0)
    data_url = damage(tmp_path / "data", "test-00001", sprites)
    candidates = [Candidate(name="teacher", weights_urls=(teacher,))]

    def detect():
        where = {"data_url": data_url, "subset": "test", "cluster": ONE_WORKER}
        return detect_videos(candidates, **where, inference=INFERENCE, motion=motion)

    result = detect()
    assert [failure.key for failure in result.failures] == ["test-00001"]
    got = [d for d in result.detections["teacher"] if d.video == "test-00002"]
    expected = slowly([teacher], sprites, "test-00002", motion)
    assert len(got) == len(expected) == INFERENCE.nms.top_k
    for one, (start_s, end_s, score, _) in zip(got, expected, strict=True):
        assert [one.start_s, one.end_s, one.score] == pytest.approx([start_s, end_s, score], rel=1e-4, abs=1e-4)

    other = build_motion(MotionConfig(name="dis", clip_px=1.0))
    write_flow(read_manifest(sprites), flow_url, other, WINDOW, device="cpu", ledger=QuarantineLedger(), overwrite=True)
    with pytest.raises(ValueError, match="flow shards were changed since"):
        detect()


@pytest.mark.usefixtures("cluster")
def test_windows_longer_than_their_videos_and_flow_that_has_moved(make_stage, sprites, tmp_path):
    from tadscale.runtime.evaluation.detect_videos import detect_videos
    from tadscale.runtime.evaluation.video_pass import Candidate

    longer = WINDOW.model_copy(update={"frames": 40, "stride_frames": 40})
    write_flow(read_manifest(sprites), f"{tmp_path}/flow", DIS, longer, device="cpu", ledger=QuarantineLedger())
    motion = MotionConfig(name="precomputed", flow_url=f"{tmp_path}/flow")
    stages = {
        "fast": make_stage(tmp_path, mode="teacher", data={"window": longer}),
        "precomputed": make_stage(tmp_path, mode="teacher", data={"window": longer}, motion=motion),
    }
    urls = {name: save_untrained(stage, tmp_path / name, 0) for name, stage in stages.items()}
    expected = {name: slowly([url], sprites, "test-00002", stages[name].job.motion) for name, url in urls.items()}
    Path(tmp_path, "flow").rename(tmp_path / "moved")
    moved = MotionConfig(name="precomputed", flow_url=f"{tmp_path}/moved")
    for name, where in {"fast": FAST, "precomputed": moved}.items():
        candidates = [Candidate(name=name, weights_urls=(urls[name],))]
        result = detect_videos(
            candidates, data_url=sprites, subset="test", cluster=ONE_WORKER, inference=INFERENCE, motion=where
        )
        got = [d for d in result.detections[name] if d.video == "test-00002"]
        assert len(got) == len(expected[name]) > 0
        for one, (start_s, end_s, score, _) in zip(got, expected[name], strict=True):
            assert [one.start_s, one.end_s, one.score] == pytest.approx([start_s, end_s, score], rel=1e-4, abs=1e-4)


def test_on_a_machine_of_its_own_no_cluster_is_started_and_no_thread_is_left(networks, sprites, monkeypatch):
    from tadscale.runtime.evaluation import detect_videos as module
    from tadscale.runtime.evaluation.video_pass import Candidate

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr(module, "connect", lambda _: pytest.fail("Ray was asked for"))
    threads, torchs = threading.active_count(), torch.get_num_threads()
    candidates = [Candidate(name="rgb", weights_urls=(networks["baseline"],))]
    cluster = ClusterConfig(cpus_per_motion=3)
    found = module.detect_videos(candidates, data_url=sprites, subset="test", cluster=cluster, inference=INFERENCE)
    assert len({one.video for one in found.detections["rgb"]}) == 3
    assert (threading.active_count(), torch.get_num_threads()) == (threads, torchs)


@pytest.mark.parametrize(("setting", "value"), [("fps", 10.0), ("resize", "crop"), ("stride_frames", 3)])
def test_networks_that_one_pass_cannot_serve_are_refused(networks, sprites, tmp_path, setting, value):
    from tadscale.runtime.evaluation.detect_videos import detect_videos
    from tadscale.runtime.evaluation.video_pass import Candidate

    spec = load_network(networks["baseline"])[1]
    other = spec.model_copy(update={"window": spec.window.model_copy(update={setting: value})})
    url = str(tmp_path / "other")
    Path(url).mkdir()
    save_network(url, other, load_network(networks["baseline"])[0].state_dict())
    candidates = [Candidate(name="a", weights_urls=(networks["baseline"],)), Candidate(name="b", weights_urls=(url,))]
    with pytest.raises(ValueError, match=rf"differs in \['{setting}'\]"):
        detect_videos(candidates, data_url=sprites, subset="test", cluster=ONE_WORKER)


@pytest.mark.usefixtures("cluster")
def test_evaluation_and_detect_go_one_way(networks, sprites, monkeypatch):
    """What merges a video's windows is changed in one place, and both follow."""
    from tadscale.runtime.evaluation.detect_videos import detect_videos
    from tadscale.runtime.evaluation.video_pass import Candidate

    marked = Detection(video="marked", label="none", start_s=0.0, end_s=1.0, score=1.0)
    monkeypatch.setattr(DetectionPath, "merge", lambda self, windows, *, video, duration_s: [marked])
    candidates = [Candidate(name="rgb", weights_urls=(networks["baseline"],))]
    result = detect_videos(candidates, data_url=sprites, subset="test", cluster=ONE_WORKER)
    assert result.detections["rgb"] == [marked] * 3
    row = read_manifest(sprites).subset("test").row(0)
    video = read_range(row.url, row.video_offset, row.video_bytes)
    assert Predictor.from_directory(networks["baseline"], "cpu").detect(video, "v")[1] == [marked]
