"""Made-up data in the form of the real ones: clips of one colour each, and a stick figure that moves its hands."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.real.takes import STYLES
from benchmarks.real.vocabularies import MOTIONS_ALONE
from tadscale.data.encode import encode_h264

GROUPS = (1, 2, 8, 11, 12)  # two of the test subset, one of validation, two of train
CLIP_S, CLIP_FPS = 4.0, 25.0
ACTION_S = (1.0, 3.0)  # of every annotated clip
ARM, LEG = ("Shoulder", "UpperArm", "LowerArm", "Hand"), ("UpperLeg", "LowerLeg", "Foot", "Toes")
LIMBS = [[f"{joint}_{side}" for joint in limb] for limb in (ARM, LEG) for side in "LR"]
NAMES = [
    "joint_Root",
    "Hips",
    "Spine",
    "Chest",
    "Neck",
    "Head",
    "End",
    *(name for limb in LIMBS for name in (*limb, "End")),
]
PARENTS = (-1, 0, 1, 2, 3, 4, 5, 3, 7, 8, 9, 10, 3, 12, 13, 14, 15, 1, 17, 18, 19, 20, 1, 22, 23, 24, 25)
_SIDE = [(5, 118), (10, 118), (14, 94), (15, 74), (15, 74)], [(6, 85), (8, 48), (8, 11), (8, 4), (8, 4)]


def standing() -> np.ndarray:
    """Joints `[27, 3]` of somebody who stands and faces +z; the left side is at +x."""
    arm, leg = ([(x, y, 0.0) for x, y in part] for part in _SIDE)
    spine = [(0, y, 0.0) for y in (0, 90, 97, 106, 122, 129, 129)]
    mirrored = [[(-x, y, z) for x, y, z in part] for part in (arm, leg)]
    joints = np.array([*spine, *arm, *mirrored[0], *leg, *mirrored[1]], np.float32)
    joints[[20, 21, 25, 26], 2] = 9.0  # toes point ahead
    return joints


@pytest.fixture(scope="session")
def made_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `ucf9/` and `mocap/`."""
    data = tmp_path_factory.mktemp("data")
    _write_clips(data / "ucf9")
    _write_takes(data / "mocap")
    return data


def _write_clips(folder: Path) -> None:
    (folder / "clips").mkdir(parents=True)
    rng, frames, rows, database = np.random.default_rng(0), round(CLIP_S * CLIP_FPS), [], {}
    for action in MOTIONS_ALONE.scenes:
        for group in GROUPS:
            key = f"v_{action}_g{group:02d}_c01"
            colour = rng.integers(40, 216, 3).astype(np.uint8)
            video = encode_h264(np.broadcast_to(colour, (frames, 32, 48, 3)), CLIP_FPS)
            (folder / "clips" / f"{key}.mp4").write_bytes(video)
            rows.append({"file": f"{key}.mp4", "class": action, "group": group, "frames": frames, "fps": CLIP_FPS})
            if action.startswith("Basketball"):
                note = {"label": action, "segment": list(ACTION_S)}
                database[key] = {"duration": CLIP_S, "annotations": [note]}
    _write_table(folder / "index.csv", rows)
    (folder / "ball.json").write_text(json.dumps({"database": database}))


def _write_takes(folder: Path) -> None:
    folder.mkdir()
    joints, rows = {}, []
    for content in MOTIONS_ALONE.motions:
        for style in (style for styles in STYLES.values() for style in styles):
            name = f"{content}/{style}_001"
            take = np.repeat(standing()[None], 45, axis=0)  # 3 s
            take[:, 10, 1] += 40 * np.sin(np.linspace(0, np.pi, 45))  # the left hand goes up, and down again
            joints[name] = take.astype(np.float16)
            rows.append({"take": name, "content": content, "style": style, "frames": 45, "fps": 15.0})
    _write_table(folder / "takes.csv", rows)
    np.savez(folder / "joints.npz", names=np.array(NAMES), parents=np.array(PARENTS), **joints)


def _write_table(path: Path, rows: list[dict]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
