"""The files of a folder and of all folders below it, symbolic links followed: hub caches, DVC and annex are all links."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tadscale.data.storage import open_filesystem, with_retry


class Folder(NamedTuple):
    """What lies in a folder: paths relative to it, sorted."""

    files: tuple[str, ...]
    broken: tuple[str, ...]
    """Links to nothing: what they stand for has not been fetched."""


def list_folder(url: str, *, hidden: bool = False) -> Folder:
    """All files in a folder and below; none if there is no such folder.

    Args:
        url: a path or URL.
        hidden: those whose name begins with a dot, too, and those in such folders: macOS leaves a `._a.mp4` beside an
            `a.mp4` on foreign disks, which is no video.

    Raises:
        StorageError: the storage cannot be reached or refuses.
    """
    filesystem, path = open_filesystem(url)
    if "file" in filesystem.protocol:
        return with_retry(lambda: _local(Path(path), hidden), url)
    inside = path.rstrip("/") + "/"

    def names() -> Folder:
        found = filesystem.find(path)
        below = [name.removeprefix(inside) for name in found if name.startswith(inside) and not name.endswith("/")]
        return Folder(tuple(sorted(name for name in below if hidden or not _hidden(name))), ())

    return with_retry(names, url)


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _local(root: Path, hidden: bool) -> Folder:
    paths = sorted(_walk(root, hidden))
    files = [path for path in paths if path.is_file()]
    broken = [path for path in paths if path.is_symlink() and not path.exists()]
    return Folder(*(tuple(path.relative_to(root).as_posix() for path in some) for some in (files, broken)))


def _walk(root: Path, hidden: bool) -> Iterator[Path]:
    for folder, below, names in os.walk(root, followlinks=True):
        yield from (Path(folder, name) for name in names if hidden or not _hidden(name))
        above = {Path(folder).resolve(), *Path(folder).resolve().parents}
        below[:] = sorted(
            name for name in below if (hidden or not _hidden(name)) and Path(folder, name).resolve() not in above
        )  # a link to a folder above goes round in circles
