"""When training again is worth its price."""

from pydantic import Field, NonNegativeInt, PositiveInt

from tadscale.config import Config


class DriftConfig(Config):
    """When new videos count as another kind of videos. A shift must be both large and more than chance."""

    false_alarms: float = Field(default=0.01, gt=0, lt=1)
    """How often a tick may see drift where there is none, all its tests together: each of the eight has an eighth of it,
    and its chance is exact or a permutation's. At 0.01 a weekly tick is wrong once in two years."""
    min_videos: int = Field(default=10, ge=5)
    """With fewer new videos nothing is called drift. Of 10 against 64 the least distance that is not chance is 0.62 (of 20
    it is 0.48, of 40 0.38, of 64 0.34): a shift of two deviations is seen by 10 videos in 92 % of cases, of one in 17 %."""
    label_divergence: float = Field(default=0.05, ge=0, le=1)
    """Of the label mix: Jensen-Shannon divergence in bits. 0.05 is two classes that go from half and half to three to one;
    0 is the same mix, 1 has no class in common."""
    distance: float = Field(default=0.3, ge=0, le=1)
    """Of durations, appearance, motion and scores: the Kolmogorov-Smirnov distance, the largest difference between two
    cumulative distributions. 0.3 is a normal distribution that moved by 0.77 of its deviation."""
    score_videos: NonNegativeInt = 24
    """New videos that the champion itself looks at, if nothing else was reason enough, to compare its confidence with that
    on the test videos. It runs in this process; 0 leaves it out."""


class TriggerConfig(Config):
    """When to train again: enough that is new, or less that is different."""

    min_new_videos: PositiveInt = 20
    """Fewer new training videos are no reason by themselves. By twenty a shift of one and a half deviations is
    seen in 95 % of cases, of one in half of them: with fewer, drift is found late or not at all."""
    min_new_fraction: float = Field(default=0.05, ge=0)
    """New training videos over those that are known; both this and `min_new_videos` must be reached. Average precision grows
    about with the logarithm of the data: 5 % more change it by less than a gate can see with 100 videos."""
    drift: DriftConfig = DriftConfig()
    """What drift is; it needs fewer videos."""
