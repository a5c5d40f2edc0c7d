"""The built-in data: what they promise of motion, appearance, bias and determinism."""

import numpy as np
import pytest

from tadscale.data.sprites import SpritesConfig, class_names, draw_video, render_video, write_script
from tadscale.data.sprites_render import CHROMA, Sprite, pose_at, texture

SMALL = SpritesConfig(size=32, duration_s=8.0, train=4)


def _scripts(config, subset, count):
    return [write_script(config, subset, index) for index in range(count)]


def test_same_settings_same_bytes_and_other_seeds_other_videos():
    assert draw_video(SMALL, "train", 1) == draw_video(SMALL, "train", 1)
    other = SMALL.model_copy(update={"seed": 1})
    assert draw_video(SMALL, "train", 1).video != draw_video(other, "train", 1).video
    assert draw_video(SMALL, "train", 1).video != draw_video(SMALL, "test", 1).video


def test_segments_lie_inside_the_video_and_inside_the_aperture_time():
    config = SpritesConfig()
    for script in _scripts(config, "train", 40):
        actions = [sprite for sprite in script.sprites if sprite.kind == "action"]
        assert len(actions) == len(script.segments)
        for segment in script.segments:
            assert 0 <= segment.start_s < segment.end_s <= config.duration_s
        for sprite in actions:  # still before, and (unless the video ends) after
            assert sprite.show_s < sprite.action_start_s < sprite.action_end_s < sprite.hide_s <= config.duration_s


@pytest.mark.parametrize(("share", "classes"), [(1.0, 8), (0.5, 6), (0.0, 4)])
def test_complementarity_is_the_share_of_motions_that_appearance_splits(share, classes):
    assert len(class_names(SpritesConfig(complementarity=share))) == classes


def test_bias_ties_appearance_to_motion_in_training_only():
    config = SpritesConfig(static_bias=1.0)

    def looks_of_first_motion(subset):
        scripts = _scripts(config, subset, 30)
        return {sprite.appearance for script in scripts for sprite in script.sprites if sprite.motion == "left"}

    assert len(looks_of_first_motion("train")) == 1
    assert len(looks_of_first_motion("test")) == 2


def test_appearances_have_the_same_luminance():
    """Grey-level flow must not tell them apart: one scene in every colour, compared as luminance."""
    config = SpritesConfig(size=32, duration_s=8.0, noise=0.0)
    script = write_script(config, "train", 0)
    luma = []
    for look in CHROMA:
        painted = script._replace(sprites=[Sprite(**{**vars(sprite), "appearance": look}) for sprite in script.sprites])
        frames = render_video(config, "train", 0, painted)[0].astype(float)
        luma.append(frames @ np.array([0.299, 0.587, 0.114]))
    assert max(np.abs(one - luma[0]).max() for one in luma) < 12  # rounding, and clipping of saturated colours
    assert max(np.abs(one - luma[0]).mean() for one in luma) < 0.3


@pytest.mark.parametrize("motion", ["left", "right", "up", "down", "clockwise", "anticlockwise", "expand", "contract"])
def test_true_flow_carries_one_frame_into_the_next(motion):
    """Following the flow of a noiseless, still camera gives the next frame inside apertures that move."""
    config = SpritesConfig(size=64, duration_s=8.0, noise=0.0, jitter_px=0.0, motions=(motion,))
    script = write_script(config, "train", 2)
    frames, flow = render_video(config, "train", 2, script, with_flow=True)
    assert flow is not None
    luma = frames.astype(float) @ np.array([0.299, 0.587, 0.114])
    moving = [t for t in range(len(frames) - 1) if np.hypot(*flow[t]).max() > 0.5]
    assert len(moving) > 10
    for t in moving[::10]:
        v, u = np.nonzero(np.hypot(*flow[t]) > 0.3)
        x, y = u + flow[t][0, v, u], v + flow[t][1, v, u]
        keep = (
            (x > 1)
            & (x < 62)
            & (y > 1)
            & (y < 62)
            & (np.hypot(*flow[t][:, np.rint(y).astype(int).clip(0, 63), np.rint(x).astype(int).clip(0, 63)]) > 0.3)
        )
        x, y, v, u = x[keep], y[keep], v[keep], u[keep]
        x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
        fx, fy = x - x0, y - y0
        following = luma[t + 1]
        seen = (
            following[y0, x0] * (1 - fx) * (1 - fy)
            + following[y0, x0 + 1] * fx * (1 - fy)
            + following[y0 + 1, x0] * (1 - fx) * fy
            + following[y0 + 1, x0 + 1] * fx * fy
        )
        still = np.abs(following[v, u] - luma[t][v, u]).mean()
        assert np.abs(seen - luma[t][v, u]).mean() < 0.55 * still


def test_distractors_do_not_move():
    sprite = write_script(SpritesConfig(), "train", 0).sprites[0]
    flicker = Sprite(**{**vars(sprite), "kind": "flicker"})
    assert pose_at(flicker, flicker.show_s, 10) == pose_at(flicker, flicker.hide_s, 10)


def test_expansion_neither_blurs_nor_runs_out():
    """Contrast of the texture stays within a third of its mean over 20 octaves' worth of zoom."""
    sprite = Sprite(
        **{**vars(write_script(SpritesConfig(motions=("expand",)), "train", 1).sprites[0]), "kind": "action"}
    )
    y, x = np.mgrid[-12:13, -12:13].astype(np.float32)
    still = pose_at(sprite, 0.0, 10)
    contrasts = [
        texture(sprite, type(still)(angle=still.angle, octave=octave), x, y).std() for octave in np.linspace(0, 20, 60)
    ]
    assert min(contrasts) > 0.5 * np.mean(contrasts)
