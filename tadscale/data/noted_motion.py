"""What stands beside shards of flow: what made them, and of which pictures. Read where torch is not."""

import json

from tadscale.data.storage import join, list_names, read_bytes, write_bytes
from tadscale.data.windows import WindowConfig
from tadscale.errors import UserError

MOTION_NAME = "motion.json"
CROPPED = " of cropped pictures"


def noted_motion(url: str) -> str:
    """What made shards of flow, by content; empty where they do not say. Raises `StorageError`."""
    if MOTION_NAME not in list_names(url):
        return ""
    text: str = json.loads(read_bytes(join(url, MOTION_NAME)))["motion"]
    return text


def write_note(url: str, text: str, window: WindowConfig) -> None:
    """Write beside shards of flow what made them. Raises `StorageError`."""
    made = text + (CROPPED if window.resize == "crop" else "")
    write_bytes(join(url, MOTION_NAME), json.dumps({"motion": made}).encode())


def check_same_pictures(url: str, window: WindowConfig) -> None:
    """Refuse flow of other pictures than the windows': of another shape, or of less than a random crop may show.

    Flow that was computed ahead is of the middle of a picture that is cropped. What a random crop shows beside that, it does
    not have.

    Raises:
        UserError: it is of stretched pictures and windows are cropped, or the other way round; or windows are cropped at
            random.
        StorageError: the storage cannot be reached.
    """
    made = "crop" if noted_motion(url).endswith(CROPPED) else "stretch"
    if made != window.resize:
        raise UserError(
            f"motion.flow_url: {url} holds flow of pictures under data.window.resize={made}, and windows are under "
            f"{window.resize}: set data.window.resize={made}, or compute the flow again (`tadscale data flow`)"
        )
    if window.resize == "crop" and window.augment.crop_area_min < 1:
        raise UserError(
            f"motion.flow_url: {url} holds flow of the middle of each picture, and data.window.augment crops anywhere under "
            "data.window.resize=crop: leave crop_area_min out, compute motion as training goes (motion.name), or set "
            "data.window.resize=stretch"
        )
