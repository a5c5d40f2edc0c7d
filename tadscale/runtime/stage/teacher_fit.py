"""Whether what a teacher says can be held against what a stage's network says, step by step."""

from tadscale.errors import UserError
from tadscale.models.backbones.base import feature_stride
from tadscale.network import NetworkSpec

SAMPLING = ("frames", "fps", "height", "width", "resize", "features")
"""Settings of a window that decide what a network sees of it: networks that differ in one cannot be shown the same."""


def check_fit(teacher: NetworkSpec, ours: NetworkSpec, url: str) -> None:
    """Refuse a teacher whose features and predictions mean other things than the student's.

    Backbones may differ, as long as their steps are as long.

    Args:
        teacher: what it is.
        ours: what is trained.
        url: where the teacher lies, for the message.

    Raises:
        UserError: they differ in sampling, classes or network; where the teacher reads motion, in that.
    """
    motion = {"motion": (teacher.motion_fingerprint, ours.motion_fingerprint)} if teacher.reads_motion else {}
    pairs = motion | {
        **{f"window.{name}": (getattr(teacher.window, name), getattr(ours.window, name)) for name in SAMPLING},
        "classes": (teacher.classes, ours.classes),
        "model.dim": (teacher.model.dim, ours.model.dim),
        "model.head": (teacher.model.head, ours.model.head),
        "feature stride": (feature_stride(teacher.model.backbone), feature_stride(ours.model.backbone)),
    }
    for name, (theirs, own) in pairs.items():
        if theirs != own:
            raise UserError(
                f"the teacher of {url} has another {name} than this stage ({theirs} and {own}): a teacher does not "
                "transfer. Use its settings, or train a teacher with these"
            )
