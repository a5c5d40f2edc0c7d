"""The classes of the two data sets with recorded motion."""

from benchmarks.real.mocap import Vocabulary

_UCF = (
    "ApplyEyeMakeup",
    "ApplyLipstick",
    "Archery",
    "BabyCrawling",
    "BalanceBeam",
    "BandMarching",
    "BaseballPitch",
    "Basketball",
    "BasketballDunk",
)
_HANDS = ("both-hands", "left-hand", "right-hand")
_RAISE, _WAVE = tuple(f"raise-up-{hand}" for hand in _HANDS), tuple(f"wave-{hand}" for hand in _HANDS)
_TURN = ("walk-turn-left", "walk-turn-right")

MOTIONS_ALONE = Vocabulary(
    motions={content: (content,) for content in (*_RAISE, *_WAVE, "run", "walk", *_TURN)},
    scenes={name: (name,) for name in _UCF},
    scene_counts=False,
)
"""Ten motions in any of nine scenes: what moves how decides, the scene only distracts."""

MOTIONS_IN_SCENES = Vocabulary(
    motions={"raise-up": _RAISE, "wave": _WAVE, "walk": ("walk", *_TURN), "run": ("run",)},
    scenes={
        "face": ("ApplyEyeMakeup", "ApplyLipstick"),
        "court": ("Basketball", "BasketballDunk"),
        "field": ("BaseballPitch",),
    },
    scene_counts=True,
)
"""Four motions times three scenes. Flow cannot tell the three scenes of a motion apart, a picture not the four motions in a
scene: the regime of the paper's Table 1."""
