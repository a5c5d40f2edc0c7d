"""Basketball in untrimmed videos: which clips are shown where, and where their actions end up."""

from collections import Counter

import numpy as np
import pytest

from benchmarks.real.ball import SUBSETS, BallConfig, Deck, draw_videos, join_shots, plan_videos, read_shots
from benchmarks.real.ucf import read_clips, subset_of
from tadscale.data.decode import decode_frames
from tadscale.segments import Segment

CONFIG = BallConfig(train=3, shortest_s=10, longest_s=20)


def test_a_deck_deals_every_shot_once_before_any_returns():
    deck = Deck(list("abcde"), np.random.default_rng(0))
    first, second = ([deck.deal() for _ in range(5)] for _ in range(2))
    assert sorted(first) == sorted(second) == list("abcde")
    assert first != second


def test_no_recording_is_in_two_subsets_and_the_published_test_groups_are_the_test():
    assert [group for group in range(1, 26) if subset_of(group) == "test"] == [1, 2, 3, 4, 5, 6, 7]
    assert {subset_of(group) for group in range(8, 26)} == {"train", "validation"}


@pytest.mark.parametrize("subset", ["validation", "test"])
def test_what_is_scored_is_shown_once(made_data, subset):
    shots = read_shots(made_data, CONFIG)
    shown = Counter(shot.clip.key for video in plan_videos(shots, CONFIG, subset) for shot in video if shot.actions)
    assert set(shown) == {shot.clip.key for shot in shots if shot.actions and shot.clip.subset == subset}
    assert set(shown.values()) == {1}


def test_videos_are_of_their_subset_and_of_the_length_that_was_asked_for(made_data):
    shots = read_shots(made_data, CONFIG)
    for subset in SUBSETS:
        for video in plan_videos(shots, CONFIG, subset):
            assert {shot.clip.subset for shot in video} == {subset}
            assert CONFIG.shortest_s <= sum(shot.duration_s for shot in video) < CONFIG.longest_s + 4.0
    assert len(list(plan_videos(shots, CONFIG, "train"))) == 3


def test_clips_whose_action_comes_near_a_cut_can_be_left_out(made_data):
    """The made clips have their action from second 1 to 3 of 4."""
    near, nearer = (read_shots(made_data, BallConfig(inside_s=inside_s)) for inside_s in (0.9, 1.1))
    assert len(near) > len(nearer) > 0  # background stays
    assert any(shot.actions for shot in near) and not any(shot.actions for shot in nearer)


def test_actions_stand_where_their_pictures_are():
    """Two shots, black and white; the second one's action covers exactly its white frames 5 to 15."""
    black, white = (np.full((20, 32, 32, 3), grey, np.uint8) for grey in (16, 235))
    sample = join_shots([(black, []), (white, [Segment("throw", 0.5, 1.5)])], BallConfig(), "test", 3)
    assert sample.key == "test-00003"
    assert sample.annotation["duration"] == 4.0
    assert sample.annotation["annotations"] == [{"label": "throw", "segment": [2.5, 3.5]}]
    frames = decode_frames(sample.video, np.arange(40) / 10, (32, 32))
    assert frames[:20].max() < 60 and frames[20:].min() > 190


def test_same_settings_same_bytes(made_data):
    config = BallConfig(train=1, shortest_s=5, longest_s=6)
    assert list(draw_videos(made_data, config)) == list(draw_videos(made_data, config))


def test_a_folder_without_the_data_is_refused_with_what_it_should_hold(tmp_path):
    with pytest.raises(ValueError, match="holds ucf9/ and mocap/"):
        read_clips(tmp_path)


def test_real_clips_become_a_video_with_two_classes(shared_data):
    config = BallConfig(shortest_s=12, longest_s=13, share=0.8)
    sample = next(draw_videos(shared_data, config))
    assert sample.annotation["duration"] >= 12
    assert {one["label"] for one in sample.annotation["annotations"]} <= {"Basketball", "BasketballDunk"}
    planned = list(plan_videos(read_shots(shared_data, config), config, "test"))
    assert sum(len(shot.actions) for video in planned for shot in video) == 73
