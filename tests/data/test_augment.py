"""Draws are pure functions of a seed, and cover what the settings say."""

import numpy as np
import pytest
from pydantic import ValidationError

from tadscale.data.augment import NO_AUGMENT, Augment

ALL = Augment(crop_area_min=0.5, flip_probability=0.25, shift=0.5)


def test_same_seed_same_draw() -> None:
    assert ALL.draw(7) == ALL.draw(7) != ALL.draw(8)


def test_draws_spread_evenly_over_what_is_allowed() -> None:
    draws = np.array([ALL.draw(seed) for seed in range(2000)])  # [2000, 5]
    for column, low, high in ((0, 0.5, 1.0), (1, 0.0, 1.0), (2, 0.0, 1.0), (4, -0.5, 0.5)):
        parts = np.histogram(draws[:, column], bins=4, range=(low, high))[0]
        assert parts.sum() == 2000
        assert np.abs(parts - 500).max() < 80  # 4 standard deviations
    assert draws[:, 3].mean() == pytest.approx(0.25, abs=0.04)
    assert np.abs(np.corrcoef(draws.T) - np.eye(5)).max() < 0.09


def test_by_default_nothing_changes() -> None:
    draw = Augment().draw(5)
    changes = draw.crop_area, draw.flip, draw.shift
    assert changes == (NO_AUGMENT.crop_area, NO_AUGMENT.flip, NO_AUGMENT.shift) == (1.0, False, 0.0)


@pytest.mark.parametrize("settings", [{"crop_area_min": 0.9}, {"flip_probability": 0.1}, {"shift": 0.1}])
def test_whoever_varies_windows_says_so(settings: dict) -> None:
    assert Augment(**settings).varies and not Augment().varies
    assert Augment(**settings).changes_pictures == ("shift" not in settings)


@pytest.mark.parametrize(
    "settings", [{"crop_area_min": 0}, {"crop_area_min": 1.1}, {"flip_probability": 1.5}, {"shift": 0.6}]
)
def test_settings_out_of_range_are_refused(settings: dict) -> None:
    with pytest.raises(ValidationError):
        Augment(**settings)


def test_the_draws_are_the_same_for_ever() -> None:
    spatial = (0.9665989953301719, 0.07901298235490295, 0.005777118030780293, False)
    assert ALL.draw(1)[:4] == ALL.model_copy(update={"shift": 0.0}).draw(1)[:4] == pytest.approx(spatial)
    assert ALL.draw(1).shift == pytest.approx(-0.2548941975795007)
