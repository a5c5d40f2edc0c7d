"""Recorded motion over scenes: where actions and cuts lie, what bias does, and what the test does not share."""

import numpy as np
import pytest

from benchmarks.real.mocap import SUBSETS, MocapConfig, draw_video, read_worlds, write_script
from benchmarks.real.takes import STYLES
from benchmarks.real.vocabularies import MOTIONS_ALONE, MOTIONS_IN_SCENES

SMALL = MocapConfig(size=32, duration_s=8.0)


def _shots(data, subset, count, vocabulary=MOTIONS_ALONE, **settings):
    world = read_worlds(data, MocapConfig(**settings), vocabulary)[subset]
    return [write_script(world, index) for index in range(count)]


def test_videos_have_their_length_and_actions_lie_a_second_or_more_from_every_cut(made_data):
    found = 0
    for script in _shots(made_data, "train", 30):
        assert sum(len(shot.motion.heading) for shot in script) == 160
        assert not script[-1].actions
        for shot in script:
            for _, first, end in shot.actions:
                assert 10 <= first < end <= len(shot.motion.heading) - 10
                found += 1
    assert found > 30


def test_two_actions_of_a_shot_are_a_second_or_more_apart(made_data):
    pairs = [shot.actions for script in _shots(made_data, "train", 30) for shot in script if len(shot.actions) == 2]
    assert pairs and all(second[1] - first[2] >= 10 for first, second in pairs)


def test_styles_and_recordings_of_the_subsets_are_disjoint(made_data):
    worlds = read_worlds(made_data, SMALL, MOTIONS_ALONE)
    for content in MOTIONS_ALONE.motions:
        styles = [{take.style for take in worlds[subset].takes[content]} for subset in SUBSETS]
        assert [set(STYLES[subset]) for subset in SUBSETS] == styles
        assert len(set.union(*styles)) == 7
    for scene in MOTIONS_ALONE.scenes:
        groups = [{clip.group for clip in worlds[subset].clips[scene]} for subset in SUBSETS]
        assert groups == [{11, 12}, {8}, {1, 2}]


def _agreement(scripts):
    """Share of the actions whose scene is the one that goes with their motion."""
    motions, scenes = list(MOTIONS_ALONE.motions), list(MOTIONS_ALONE.scenes)
    shots = [shot for script in scripts for shot in script if shot.actions]
    agrees = [scenes.index(s.stage.scene.action) == motions.index(s.actions[0][0]) % len(scenes) for s in shots]
    return np.mean(agrees), len(agrees)


@pytest.mark.parametrize("bias", [0.0, 0.5, 0.9])
def test_bias_ties_scenes_to_motions_in_training_as_often_as_it_says(made_data, bias):
    share, count = _agreement(_shots(made_data, "train", 80, static_bias=bias))
    expected = bias + (1 - bias) / 9
    assert share == pytest.approx(expected, abs=3.5 * (expected * (1 - expected) / count) ** 0.5)


def test_bias_leaves_validation_and_test_alone(made_data):
    for subset in ("validation", "test"):
        fair, biased = (_shots(made_data, subset, 30, static_bias=bias) for bias in (0.0, 0.9))
        assert [shot.stage for script in fair for shot in script] == [
            shot.stage for script in biased for shot in script
        ]
        assert _agreement(biased)[0] < 0.4


def test_a_class_is_a_motion_or_a_motion_in_a_scene(made_data):
    alone = {one[0] for script in _shots(made_data, "test", 50) for shot in script for one in shot.actions}
    assert alone == set(MOTIONS_ALONE.motions)
    scripts = _shots(made_data, "test", 50, MOTIONS_IN_SCENES)
    both = {one[0] for script in scripts for shot in script for one in shot.actions}
    assert both == {f"{motion}/{scene}" for motion in MOTIONS_IN_SCENES.motions for scene in MOTIONS_IN_SCENES.scenes}
    for shot in (shot for script in scripts for shot in script):
        for label, *_ in shot.actions:
            assert shot.stage.scene.action in MOTIONS_IN_SCENES.scenes[label.split("/")[1]]


def test_same_settings_same_bytes_and_other_seeds_other_videos(made_data):
    world = read_worlds(made_data, SMALL, MOTIONS_ALONE)["train"]
    other = read_worlds(made_data, SMALL.model_copy(update={"seed": 1}), MOTIONS_ALONE)["train"]
    assert draw_video(world, 0) == draw_video(world, 0)
    assert draw_video(world, 0).video != draw_video(other, 0).video
    assert draw_video(world, 0).annotation["duration"] == 8.0


@pytest.mark.parametrize("vocabulary", [MOTIONS_ALONE, MOTIONS_IN_SCENES])
def test_real_takes_and_scenes_suffice_for_every_class(shared_data, vocabulary):
    for world in read_worlds(shared_data, SMALL, vocabulary).values():
        for motion, takes in world.takes.items():
            assert {take.style for take in takes} == set(STYLES[world.subset]), motion
        assert all(len(clips) >= 10 for clips in world.clips.values())
    assert draw_video(world, 0).annotation["subset"] == "test"
