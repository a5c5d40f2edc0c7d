"""What a video is called: its key, how names of files spell it, and how the members of a shard carry it.

The key is the name that the annotations give the video, whatever characters that holds, without a suffix of a video file.
It is what manifests, detections, ledgers and reports say. Only the members of shards spell it otherwise, where WebDataset
would cut or refuse it (`a_0.5` lies in `a_0%2E5.mp4`), and reading them gives the key back.
"""

import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote

VIDEO_SUFFIXES = (
    "mp4", "mkv", "webm", "avi", "mov", "m4v", "mpg", "mpeg", "ts", "mts", "m2ts", "3gp", "flv"
)  # fmt: skip
"""Lower case; the container itself decides whether a file can be read."""
MAX_CHARACTERS = 200
# A dot ends a key for WebDataset, a backslash separates folders for some tools, and the sign of escape stands for itself.
ESCAPED = re.compile(r"[.%\\]")
REFUSED = re.compile(r"[\x00-\x1f\x7f-\x9f]|(^|/)\.{0,2}(/|$)")
"""Control characters, and parts of a path that lead elsewhere: a key may name a file."""


def fault_of_key(key: str) -> str:
    """Why a name cannot be a key; empty if it can."""
    if not key.strip() or len(key) > MAX_CHARACTERS:
        return f"the key {key[:40]!r} is not usable: blank, or more than {MAX_CHARACTERS} characters; rename the video"
    if REFUSED.search(key) or not is_unicode(key):
        return (
            f"the key {key!r} is not usable: control characters, half a character of Unicode, or a path that begins or ends "
            "with a slash or holds `..`; rename the video"
        )
    return ""


def is_unicode(text: str) -> bool:
    """Whether a text can be written: JSON may hold half a character (`\\ud800`), which no file takes."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def as_text(name: str) -> str:
    """A name that can be written: of a file's that is not UTF-8 the bytes that are none are escaped."""
    return name.encode(errors="backslashreplace").decode()


def video_key(name: str) -> str:
    """A name without the suffix of a video file, if it has one."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and stem.rpartition("/")[2] and suffix.lower() in VIDEO_SUFFIXES else name


def same_key(name: str) -> str:
    """What two spellings of a key have in common: composed and decomposed characters, with suffix and without."""
    return unicodedata.normalize("NFC", video_key(name))


def spellings(path: str) -> Iterator[str]:
    """The keys that a file may belong to, the likeliest first: by its path in the folder, then by its name alone, each as
    it is, and with or without ActivityNet's `v_`."""
    stem = same_key(path)
    for whole in dict.fromkeys((stem, stem.rpartition("/")[2])):
        folder, slash, name = whole.rpartition("/")
        yield whole
        yield folder + slash + (name.removeprefix("v_") if name.startswith("v_") else f"v_{name}")


def member_name(key: str) -> str:
    """A key as the name of a shard's members, without their suffix."""
    return ESCAPED.sub(lambda match: f"%{ord(match[0]):02X}", key)


def key_of_member(name: str) -> str:
    """The key that `member_name` spelt so; a name that it never gives (`a%20b`, of another tool) is a key itself."""
    key = unquote(name, errors="replace")
    return key if member_name(key) == name else name
