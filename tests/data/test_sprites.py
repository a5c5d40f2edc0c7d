"""The built-in data: what they promise of motion, appearance, bias and determinism."""

import hashlib
import itertools
import json

import numpy as np
import pytest

from tadscale.data.sprites import SUBSETS, SpritesConfig, class_names, draw_video, render_video, write_script
from tadscale.data.sprites_render import CHROMA, Sprite, pose_at, texture

SMALL = SpritesConfig(size=32, duration_s=8.0, train=4)


def _scripts(config, subset, count):
    return [write_script(config, subset, index) for index in range(count)]


def test_same_settings_same_bytes_and_other_seeds_other_videos():
    assert draw_video(SMALL, "train", 1) == draw_video(SMALL, "train", 1)
    other = SMALL.model_copy(update={"seed": 1})
    assert draw_video(SMALL, "train", 1).video != draw_video(other, "train", 1).video
    assert draw_video(SMALL, "train", 1).video != draw_video(SMALL, "test", 1).video


def test_settings_of_before_there_were_layouts_mean_the_videos_of_then():
    """Scripts to the last bit and pictures up to rounding, as drawn before `layout` existed."""
    assert SpritesConfig.model_validate({"seed": 3}).layout == "bound"
    config = SpritesConfig(static_bias=0.5, seed=3, duration_s=16, size=56)
    scripts = [script for subset in SUBSETS for script in _scripts(config, subset, 3)]
    digest = hashlib.sha256()
    for script in scripts:
        digest.update(json.dumps([[vars(sprite) for sprite in script.sprites], script.segments]).encode())
    assert digest.hexdigest() == "5b3e524db3be516c501f0ceb9b65375eaec4c3e4c713f8ee58a6bf445ae8100d"
    frames = render_video(config, "train", 1, scripts[1])[0]
    assert frames.mean() == pytest.approx(111.289142, abs=1e-3)
    assert frames.std() == pytest.approx(29.058430, abs=1e-3)


def test_a_scene_shows_one_aperture_at_a_time_on_either_side():
    scripts = _scripts(SpritesConfig(layout="scene"), "train", 40)
    for script in scripts:
        for before, after in itertools.pairwise(script.sprites):
            assert 0.1 <= after.show_s - before.hide_s <= 0.6
    left = [sprite.x < 32 for script in scripts for sprite in script.sprites]
    assert 0.35 < np.mean(left) < 0.65
    changes = [a != b for a, b in itertools.pairwise(left)]
    assert 0.35 < np.mean(changes) < 0.65  # by lot, not in turns


def test_bound_shows_two_apertures_at_once():
    script = write_script(SpritesConfig(layout="bound"), "train", 0)
    assert any(a.show_s < b.show_s < a.hide_s for a in script.sprites for b in script.sprites)


@pytest.mark.parametrize("layout", ["scene", "bound"])
def test_segments_lie_inside_the_video_and_inside_the_aperture_time(layout):
    config = SpritesConfig(layout=layout)
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


def _agreement(config, subset):
    """Share of the actions whose appearance is the one that goes with their motion."""
    sprites = [sprite for script in _scripts(config, subset, 350) for sprite in script.sprites]
    own = [config.appearances[config.motions.index(one.motion) % len(config.appearances)] for one in sprites]
    assert len(sprites) > 1000
    return np.mean([one.appearance == look for one, look in zip(sprites, own, strict=True)])


@pytest.mark.parametrize("layout", ["scene", "bound"])
@pytest.mark.parametrize(
    ("bias", "looks", "share"), [(0.0, 2, 0.5), (0.5, 2, 0.75), (0.9, 2, 0.95), (0.9, 4, 0.925), (1.0, 2, 1.0)]
)
def test_bias_makes_appearance_agree_with_motion_as_often_as_it_says(layout, bias, looks, share):
    """bias + (1 - bias) / looks, within three standard deviations of 1,000 draws."""
    config = SpritesConfig(layout=layout, static_bias=bias, appearances=("red", "blue", "green", "violet")[:looks])
    assert _agreement(config, "train") == pytest.approx(share, abs=3 * (share * (1 - share) / 1000) ** 0.5)


def test_bias_leaves_validation_and_test_as_they_are():
    fair, biased = SpritesConfig(), SpritesConfig(static_bias=0.9)
    for subset in ("validation", "test"):
        assert _scripts(fair, subset, 20) == _scripts(biased, subset, 20)
    assert _agreement(biased, "test") == pytest.approx(0.5, abs=0.05)


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
