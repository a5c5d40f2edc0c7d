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


def list_folder(url: str) -> Folder:
    """All files in a folder and below, without those in hidden folders; none if there is no such folder.

    Raises:
        StorageError: the storage cannot be reached or refuses.
    """
    filesystem, path = open_filesystem(url)
    if "file" in filesystem.protocol:
        return with_retry(lambda: _local(Path(path)), url)
    inside = path.rstrip("/") + "/"

    def names() -> Folder:
        found = filesystem.find(path)
        below = [name.removeprefix(inside) for name in found if name.startswith(inside) and not name.endswith("/")]
        return Folder(tuple(sorted(name for name in below if not _hidden(name))), ())

    return with_retry(names, url)


def _hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/")[:-1])


def _local(root: Path) -> Folder:
    paths = sorted(_walk(root))
    files = [path for path in paths if path.is_file()]
    broken = [path for path in paths if path.is_symlink() and not path.exists()]
    return Folder(*(tuple(path.relative_to(root).as_posix() for path in some) for some in (files, broken)))


def _walk(root: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(root, followlinks=True):
        yield from (Path(folder, name) for name in names)
        above = {Path(folder).resolve(), *Path(folder).resolve().parents}
        below[:] = sorted(
            name for name in below if not name.startswith(".") and Path(folder, name).resolve() not in above
        )  # a link to a folder above goes round in circles
