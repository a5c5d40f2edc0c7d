"""Which file of a folder is which annotated video."""

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from tadscale.data.folder import Folder
from tadscale.data.keys import VIDEO_SUFFIXES, same_key, spellings, video_key
from tadscale.data.storage import join, read_bytes
from tadscale.errors import UserError, nearest

NAMED = 5
"""Videos without a file for which the nearest name is looked up: each is compared with all."""


class Matches(NamedTuple):
    """Files and videos, brought together."""

    files: dict[str, str]
    """File by key, as the annotations spell it without a suffix."""
    missing: dict[str, str]
    """Why an annotated video has no file, by key."""
    strangers: tuple[str, ...]
    """Video files that the annotations do not know."""


def match_files(
    folder: Folder, names: Iterable[str], where: str, suffixes: Collection[str] = VIDEO_SUFFIXES
) -> Matches:
    """Find the file of each annotated video: `KEY.mp4`, in a subfolder or not, see `tadscale.data.keys`.

    A file of an unknown suffix is taken for a video that has no other: whether it is one, reading it will tell. Of several
    (`b.jpg`, `b.srt`) none is. Copies of one file are one: HACS's downloader stores a video once for each of its classes.

    Args:
        folder: what lies there.
        names: of the videos in the annotations.
        where: the folder, a path or URL.
        suffixes: lower case, of the files that are meant.

    Raises:
        UserError: two files that differ are one video, or none is any.
        StorageError: the storage cannot be reached or refuses.
    """
    keys = {same_key(name): video_key(name) for name in names}
    videos = [path for path in folder.files if path.rpartition(".")[2].lower() in suffixes]
    by_key, strangers = _match(videos, keys)
    found = {same: _only(paths, keys[same], where) for same, paths in by_key.items()}
    others = sorted(set(folder.files) - set(videos)) if suffixes is VIDEO_SUFFIXES else []
    unsure, _ = _match(others, {same: key for same, key in keys.items() if same not in found})
    found |= {same: paths[0] for same, paths in unsure.items() if len(paths) == 1}
    if not found:
        raise UserError(_none_of(videos, keys.values(), where, suffixes))
    broken, _ = _match(folder.broken, keys)
    missing = {
        key: _reason(broken.get(same, []), unsure.get(same, []), where)
        for same, key in keys.items()
        if same not in found
    }
    for key in list(missing)[:NAMED]:
        hint = nearest(key, map(video_key, strangers))
        missing[key] += f"; {hint}" if hint.startswith("did you mean") else ""
    return Matches({keys[same]: path for same, path in found.items()}, missing, tuple(strangers))


def _is_video(path: str) -> bool:
    return path.rpartition(".")[2].lower() in VIDEO_SUFFIXES


def _match(paths: Iterable[str], keys: Mapping[str, str]) -> tuple[dict[str, list[str]], list[str]]:
    """Files by what spellings of a key have in common, and the files that are none of them."""
    found: dict[str, list[str]] = {}
    strangers = []
    for path in paths:
        stem = path if _is_video(path) or "." not in path.rpartition("/")[2] else path.rpartition(".")[0]
        same = next((same for same in spellings(stem) if same in keys), None)
        if same is None:
            strangers.append(path)
        else:
            found.setdefault(same, []).append(path)
    return found, strangers


def _only(paths: list[str], key: str, where: str) -> str:
    first, *others = paths
    for other in others:
        if read_bytes(join(where, other)) != read_bytes(join(where, first)):
            raise UserError(
                f"{where}: {first} and {other} are both the video {key!r}, and differ: remove or rename one"
            )
    return first


def _reason(broken: list[str], unsure: list[str], where: str) -> str:
    if broken:
        return f"{broken[0]} in {where} is a link to nothing: fetch what it stands for (git annex get, dvc pull)"
    of_unknown = f", only {' and '.join(unsure[:2])}, of which none says that it is a video" if unsure else ""
    return f"annotated, but there is no file of it in {where}{of_unknown}"


def _none_of(videos: list[str], keys: Iterable[str], where: str, suffixes: Collection[str]) -> str:
    suffix = next(iter(suffixes))
    kind = "videos" if suffixes is VIDEO_SUFFIXES else f".{suffix} files"
    if not videos:
        return f"there are no {kind} in {where} and its subfolders, or no such folder: files of suffix {', '.join(suffixes)}"
    return (
        f"none of the {len(videos)} {kind} in {where} and its subfolders ({', '.join(videos[:3])}...) is in the "
        f"annotations ({', '.join(list(keys)[:3])}...): a file is named KEY.{suffix}, of suffix {', '.join(suffixes)}"
    )
