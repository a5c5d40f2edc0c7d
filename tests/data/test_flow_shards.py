"""Flow computed ahead: written as shards, read as windows."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from tadscale.cli import main
from tadscale.data.augment import Augment, AugmentDraw
from tadscale.data.decode import decode_frames
from tadscale.data.encode import encode_lossless
from tadscale.data.flow_shards import CHUNK_FRAMES, flow_of_video, write_flow
from tadscale.data.flow_windows import check_flow, cut_flow, load_flow, open_flow
from tadscale.data.manifest import read_manifest
from tadscale.data.noted_motion import check_same_pictures
from tadscale.data.quarantine import DataError, QuarantineBudget, QuarantineLedger
from tadscale.data.shards import VideoSample, write_shards
from tadscale.data.sprites import SpritesConfig, draw_videos
from tadscale.data.storage import read_range
from tadscale.data.windows import WindowConfig, load_window, tile
from tadscale.flow.motion import MotionConfig, build_motion

WINDOW = WindowConfig(frames=16, stride_frames=16, fps=5.0, height=32, width=32)
DIS = build_motion(MotionConfig(name="dis"))
SPRITES = SpritesConfig(train=3, validation=0, test=1, duration_s=6.0, fps=10, size=32)


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> tuple[str, str]:
    """Videos, and their flow."""
    videos, flow = (str(tmp_path_factory.mktemp(name)) for name in ("videos", "flow"))
    manifest = write_shards(draw_videos(SPRITES), videos)
    ledger = QuarantineLedger()
    written = write_flow(manifest, flow, DIS, WINDOW, device="cpu", ledger=ledger)
    assert len(written) == 4
    assert not len(ledger)
    return videos, flow


def test_a_window_holds_the_flow_that_would_be_computed(shards):
    videos, flow = shards
    manifest = read_manifest(videos)
    table = tile(manifest, WINDOW)
    precomputed = build_motion(MotionConfig(name="precomputed", flow_url=flow))
    for video, start, valid in zip(table.video, table.start_frames, table.valid_frames, strict=True):
        row = manifest.row(int(video))
        frames = load_window(row, int(start), int(valid), WINDOW).frames
        computed = DIS(torch.from_numpy(frames)[None])  # [1, 2, T, H, W]
        read = precomputed(torch.from_numpy(load_flow(flow, row.key, int(start), int(valid), WINDOW))[None])
        assert (read - computed)[:, :, : valid - 1].abs().max() <= 0.5 / 127 + 1e-6


def test_pictures_stay_in_step_where_a_rate_was_rounded():
    """Written at 6.66 a second and read at 6.6667: after 300 pictures it is a third of one off."""
    pictures = np.zeros((300, 8, 8, 3), np.uint8)
    pictures[:] = (np.arange(300) % 256).astype(np.uint8)[:, None, None, None]
    window = WINDOW.model_copy(update={"fps": 6.6667, "frames": 300, "height": 8, "width": 8})
    cut = cut_flow(encode_lossless(pictures, 8, 8, 6.66), 0, 300, window)
    assert np.array_equal(cut[:, 0, 0, 0], pictures[:, 0, 0, 0])


def test_flow_of_cropped_pictures_is_that_of_the_cropped_frames_and_of_no_others(shards, tmp_path):
    videos, cropped = read_manifest(shards[0]), WINDOW.model_copy(update={"resize": "crop", "width": 48})
    write_flow(videos, str(tmp_path), DIS, cropped, device="cpu", ledger=QuarantineLedger())
    precomputed = build_motion(MotionConfig(name="precomputed", flow_url=str(tmp_path)))
    computed = DIS(torch.from_numpy(load_window(videos.row(0), 0, 16, cropped).frames)[None])
    read = precomputed(torch.from_numpy(load_flow(str(tmp_path), videos.row(0).key, 0, 16, cropped))[None])
    assert (read - computed)[:, :, :15].abs().max() <= 0.5 / 127 + 1e-6
    check_same_pictures(str(tmp_path), cropped)
    check_same_pictures(str(tmp_path), cropped.model_copy(update={"augment": Augment(flip_probability=0.5)}))
    with pytest.raises(ValueError, match=r"flow of the middle of each picture.*crop_area_min"):
        check_same_pictures(str(tmp_path), cropped.model_copy(update={"augment": Augment(crop_area_min=0.5)}))
    for url, window in ((str(tmp_path), WINDOW), (shards[1], cropped)):
        with pytest.raises(ValueError, match="compute the flow again"):
            check_same_pictures(url, window)


def test_padding_does_not_move(shards):
    pictures = load_flow(shards[1], "train-00000", 20, 10, WINDOW)
    assert pictures[:10].std() > 0
    assert (pictures[10:] == 128).all()


def test_the_flow_of_a_flipped_crop_is_that_of_the_flipped_cropped_frames(shards):
    """Not to the pixel: flow is not computed from enlarged pictures here, but it points the same way."""
    videos, flow = shards
    row, draw = read_manifest(videos).row(0), AugmentDraw(crop_area=0.6, crop_y=0.3, crop_x=0.8, flip=True)
    precomputed = build_motion(MotionConfig(name="precomputed", flow_url=flow))

    def agreement(given: AugmentDraw) -> float:
        computed = DIS(torch.from_numpy(load_window(row, 0, 16, WINDOW, draw).frames)[None])[0, :, :-1].flatten(1)
        read = precomputed(torch.from_numpy(load_flow(flow, row.key, 0, 16, WINDOW, given))[None])[0, :, :-1].flatten(1)
        return float(
            min(torch.nn.functional.cosine_similarity(a, b, dim=0) for a, b in zip(computed, read, strict=True))
        )

    assert agreement(draw) > 0.7
    assert agreement(draw._replace(flip=False)) < 0.3


def test_long_videos_go_in_chunks_without_a_seam(decoded):
    def moving(frames):  # a motion that tells each pair apart: the mean of both frames
        fields = frames[:, :-1].float().mean(-1) + frames[:, 1:].float().mean(-1)  # [1, T - 1, H, W]
        fields = torch.cat([fields, fields[:, -1:]], dim=1) / 512
        return fields[:, None].repeat(1, 2, 1, 1, 1)

    seconds = (2 * CHUNK_FRAMES + 1) / 5  # the last chunk holds one frame
    [sample] = draw_videos(SpritesConfig(train=1, validation=0, test=0, duration_s=seconds, fps=5, size=32))
    whole = WINDOW.model_copy(update={"frames": 2 * CHUNK_FRAMES + 1})
    frames = decode_frames(sample.video, np.arange(whole.frames) / 5, (32, 32))
    expected = moving(torch.from_numpy(frames)[None])[0]  # [2, T, H, W]
    decoded.clear()
    pictures = np.stack(list(flow_of_video(sample.video, seconds, moving, WINDOW, "cpu")))
    assert len(decoded) == whole.frames  # each once, also where no index helps to seek
    assert pictures.shape == (whole.frames, 32, 32, 3)
    assert np.abs((pictures[..., 0].astype(np.float32) - 128) / 127 - expected[0].numpy()).max() <= 0.5 / 127 + 1e-6


def test_a_video_without_flow_is_a_bad_one(shards):
    with pytest.raises(DataError, match="no flow of this key"):
        load_flow(shards[1], "nobody", 0, 16, WINDOW)


def test_flow_of_other_videos_or_another_rate_is_refused(shards, tmp_path):
    videos, flow = (read_manifest(url) for url in shards)
    none = QuarantineBudget(max_fraction=0)
    check_flow(shards[1], videos, WINDOW, none)
    with pytest.raises(ValueError, match="has 5 frames a second, and windows are sampled at 10"):
        check_flow(shards[1], videos, WINDOW.model_copy(update={"fps": 10.0}), none)
    with pytest.raises(ValueError, match="u and v would no longer fit"):
        check_flow(shards[1], videos, WINDOW.model_copy(update={"width": 64}), none)
    check_flow(shards[1], videos, WINDOW.model_copy(update={"width": 64, "height": 64}), none)
    [sample] = draw_videos(SpritesConfig(train=1, validation=0, test=0, duration_s=4.0, size=32))
    both = [VideoSample(key, sample.video, sample.annotation) for key in ("train-00000", "stranger")]
    strangers = write_shards(both, str(tmp_path))
    with pytest.raises(ValueError, match=r"lacks the flow of 1 of the 2 videos .* such as 'stranger'"):
        check_flow(shards[1], strangers, WINDOW, none)
    check_flow(shards[1], strangers, WINDOW, QuarantineBudget())  # bears one
    assert flow.row(0).key in open_flow(shards[1])


def test_bad_videos_are_left_out_and_named(shards, tmp_path):
    manifest = read_manifest(shards[0])
    rows = tuple(row._replace(video_sha256="0" * 64) if row.key == "train-00001" else row for row in manifest.rows)
    ledger = QuarantineLedger(QuarantineBudget(max_fraction=0.5))
    written = write_flow(replace(manifest, rows=rows), str(tmp_path), DIS, WINDOW, device="cpu", ledger=ledger)
    assert len(written) == 3
    assert [(entry.key, entry.stage) for entry in ledger] == [("train-00001", "flow")]


def test_the_videos_are_never_replaced_by_their_flow(shards, tmp_path):
    videos = tmp_path / "videos"
    shutil.copytree(shards[0], videos)
    before = sorted((path.name, path.stat().st_size) for path in videos.iterdir())
    manifest = read_manifest(str(videos))
    for url in (str(videos), f"{videos}/", f"file://{videos}", f"{videos}/../videos"):
        with pytest.raises(ValueError, match="is where the videos lie"):
            write_flow(manifest, url, DIS, WINDOW, device="cpu", ledger=QuarantineLedger(), overwrite=True)
    assert sorted((path.name, path.stat().st_size) for path in videos.iterdir()) == before


def test_damaged_flow_is_named_as_such(shards):
    row = open_flow(shards[1])["train-00000"]
    video = read_range(row.url, row.video_offset, row.video_bytes, row.video_sha256)
    with pytest.raises(DataError, match="its flow: "):
        cut_flow(video, 25, 16, WINDOW)  # beyond its end


def test_gradients_are_not_kept(shards, tmp_path):
    gradient = build_motion(MotionConfig(name="temporal_gradient_fast"))
    with pytest.raises(ValueError, match="costs less to compute than to read"):
        write_flow(read_manifest(shards[0]), str(tmp_path), gradient, WINDOW, device="cpu", ledger=QuarantineLedger())


def test_the_command_writes_what_a_job_can_name(shards, tmp_path, capsys):
    path = tmp_path / "job.yaml"
    path.write_text(
        f"{{kind: distill, name: x, storage: runs, data: {{url: {shards[0]}, "
        "window: {frames: 16, stride_frames: 16, fps: 5, height: 32, width: 32}}, motion: {name: dis}}"
    )
    out = str(tmp_path / "flow")
    assert main(["data", "flow", str(path), out]) == 0
    assert "0 left out" in capsys.readouterr().out
    ours, fixture = (read_manifest(url) for url in (out, shards[1]))
    assert ours.digest == fixture.digest
    assert main(["data", "flow", str(path), out]) == 1  # never replaced unasked
    again = ["--set", "motion.name=precomputed", "--set", f"motion.flow_url={out}"]
    assert main(["data", "flow", str(path), str(tmp_path / "more"), *again]) == 1


def test_the_flow_of_all_that_a_job_reads_is_computed(shards, tmp_path, capsys):
    """Of its sources elsewhere, too: without it training on them stopped at the first video."""
    more, out = str(tmp_path / "more"), str(tmp_path / "flow")
    drawn = list(draw_videos(SPRITES))
    renamed = [sample._replace(key=f"more/{sample.key}") for sample in drawn if sample.key != "train-00001"]
    write_shards(renamed, more)
    path = tmp_path / "job.yaml"
    path.write_text(
        f"{{kind: teacher, name: x, storage: runs, data: {{url: {shards[0]}, "
        f"sources: [{{url: {shards[0]}}}, {{url: {more}, labelled: false}}], "
        "window: {frames: 16, stride_frames: 16, fps: 5, height: 32, width: 32}}, motion: {name: dis}}"
    )
    assert main(["data", "flow", str(path), more, "--overwrite"]) == 1
    assert "is where the videos lie" in capsys.readouterr().err
    assert main(["data", "flow", str(path), out]) == 0
    trained = {"more/train-00000", "more/train-00002"}  # and of the other source no test videos
    assert set(open_flow(out)) == set(open_flow(shards[1])) | trained
    check_flow(out, read_manifest(more).subset("train"), WINDOW, QuarantineBudget(max_fraction=0))
    assert main(["data", "preview", str(path), str(tmp_path / "clips"), "--videos", "5"]) == 0
    assert (tmp_path / "clips" / "more_train-00002.png").exists()
