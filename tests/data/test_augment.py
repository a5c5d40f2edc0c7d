"""Draws are pure functions of a seed, and cover what the settings say."""

import numpy as np
import pytest
from pydantic import ValidationError

from tadscale.data.augment import NO_AUGMENT, Augment

CROP_AND_FLIP = Augment(crop_area_min=0.5, flip_probability=0.25)


def test_same_seed_same_draw() -> None:
    assert CROP_AND_FLIP.draw(7) == CROP_AND_FLIP.draw(7) != CROP_AND_FLIP.draw(8)


def test_draws_spread_evenly_over_what_is_allowed() -> None:
    draws = np.array([CROP_AND_FLIP.draw(seed) for seed in range(2000)])  # [2000, 4]
    for column, low in ((0, 0.5), (1, 0.0), (2, 0.0)):
        parts = np.histogram(draws[:, column], bins=4, range=(low, 1))[0]
        assert parts.sum() == 2000
        assert np.abs(parts - 500).max() < 80  # 4 standard deviations
    assert draws[:, 3].mean() == pytest.approx(0.25, abs=0.04)
    assert np.abs(np.corrcoef(draws.T) - np.eye(4)).max() < 0.09


def test_by_default_nothing_changes() -> None:
    draw = Augment().draw(5)
    assert (draw.crop_area, draw.flip) == (NO_AUGMENT.crop_area, NO_AUGMENT.flip) == (1.0, False)


@pytest.mark.parametrize("settings", [{"crop_area_min": 0}, {"crop_area_min": 1.1}, {"flip_probability": 1.5}])
def test_settings_out_of_range_are_refused(settings: dict) -> None:
    with pytest.raises(ValidationError):
        Augment(**settings)


def test_the_draws_are_the_same_for_ever() -> None:
    draw = CROP_AND_FLIP.draw(1)
    assert draw == pytest.approx((0.9665989953301719, 0.07901298235490295, 0.005777118030780293, False))
