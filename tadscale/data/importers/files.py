"""Files of published annotations: found in folders, read line by line, so that every fault can be told with its line."""

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tadscale.data.folder import list_folder
from tadscale.data.json_text import read_annotation_bytes
from tadscale.data.storage import join
from tadscale.errors import UserError

SHOWN = 5
"""Names of files that an error quotes."""
TIMESTAMP = re.compile(r"(?P<hours>\d+):(?P<minutes>[0-5]?\d):(?P<seconds>[0-5]?\d(\.\d+)?)")


def published_files(annotations: Iterable[str]) -> list[str]:
    """The named files, and those in named folders and below, each once, hidden ones left out.

    Raises:
        StorageError: the storage cannot be reached or refuses.
    """
    found = []
    for url in annotations:
        found += [join(url, name) for name in list_folder(url).files] or [url]
    return list(dict.fromkeys(found))


def file_name(url: str) -> str:
    """The last part of a path or URL."""
    return url.rstrip("/").rpartition("/")[2]


def matching(files: Sequence[str], pattern: re.Pattern[str], expected: str = "") -> list[tuple[str, re.Match[str]]]:
    """The files whose names are of a form, with the match of their names.

    Raises:
        UserError: there is none, and `expected` says in words which there should be.
    """
    found = [(url, match) for url in files if (match := pattern.fullmatch(file_name(url)))]
    if not found and expected:
        more = ", ..." if len(files) > SHOWN else ""
        raise UserError(
            f"none of the {len(files)} files given ({', '.join(map(file_name, files[:SHOWN]))}{more}) is one of {expected}: "
            "give the files under their published names, or their folder"
        )
    return found


def lines_of(url: str) -> Iterator[tuple[str, str]]:
    """Lines that are not blank, each with its place `FILE:LINE`.

    Raises:
        UserError: it is not text in UTF-8.
        StorageError: it cannot be read.
    """
    for number, line in enumerate(_text(url).splitlines(), start=1):
        if line.strip():
            yield f"{url}:{number}", line.strip()


def rows_of(url: str, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Rows of a table with a header line, each with its place `FILE:LINE` (that of its last line).

    Raises:
        UserError: it is no such table, lacks one of the columns, or a row has too few or too many values.
        StorageError: it cannot be read.
    """
    table = csv.reader(io.StringIO(_text(url), newline=""))
    try:
        header = next(table, [])
        missing = [name for name in columns if name not in header]
        if missing:
            raise UserError(
                f"{url}:1: no column {', '.join(missing)}; there are {', '.join(header)[:120]!r}: give the file as it was "
                "published, with its header line"
            )
        for cells in table:
            if not cells:
                continue
            if len(cells) != len(header):
                raise UserError(
                    f"{url}:{table.line_num}: {len(cells)} values where the header names {len(header)}: a file cut "
                    "short, or edited? Fetch it again"
                )
            yield f"{url}:{table.line_num}", dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise UserError(f"{url}:{table.line_num}: not CSV ({error}): fetch the file again") from None


def seconds(text: str, place: str) -> float:
    """A time written as seconds or as `HH:MM:SS.ss`, in seconds.

    Raises:
        UserError: it is neither.
    """
    if match := TIMESTAMP.fullmatch(text.strip()):
        return int(match["hours"]) * 3600 + int(match["minutes"]) * 60 + float(match["seconds"])
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{place}: {text[:40]!r} is no time: expected seconds or HH:MM:SS.ss; fetch the file again")
    return value


def class_list(url: str) -> dict[str, str]:
    """Class names by number or code, of a file with lines such as `7 BaseballPitch` or `c092 Tidying a table`.

    Raises:
        UserError: a line is of another form, or a number occurs twice.
    """
    classes: dict[str, str] = {}
    for place, line in lines_of(url):
        number, _, name = line.partition(" ")
        if not name.strip() or number in classes:
            raise UserError(f"{place}: {line[:60]!r} is no class: expected NUMBER NAME, every number once")
        classes[number] = name.strip()
    return classes


def _text(url: str) -> str:
    try:
        return read_annotation_bytes(url).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{url} is not text in UTF-8 (byte {error.start}): an archive? Unpack it and give the files"
        ) from None
