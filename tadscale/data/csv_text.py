"""Annotations as a table, one segment a line, as the `database` of an ActivityNet file."""

import csv
import io
from collections.abc import Iterator
from typing import Any

from tadscale.errors import UserError

COLUMNS = ("video", "label", "start", "end")


class Cell(str):
    """A cell's text that knows where it stands: who cannot read it, if anybody reads it at all, names file and line."""

    __slots__ = ("column", "line", "source")
    column: str
    line: int
    source: str

    def __new__(cls, text: str, source: str = "", line: int = 0, column: str = "") -> "Cell":
        """The text, its file, its line from 1, and what its column is called."""
        cell = super().__new__(cls, text)
        cell.source, cell.line, cell.column = source, line, column
        return cell

    @property
    def place(self) -> str:
        """How an error about it begins."""
        return f"{self.source}, line {self.line}: {self.column}"


def parse_csv(data: bytes, source: str) -> dict[str, Any]:
    """Entries by video out of `video,label,start,end`, and `subset` where there is such a column.

    Commas, semicolons or tabs separate. A line of a video alone says that nothing happens in it. Whether times and labels
    make sense is for the reader of entries to say; times are `Cell`s.

    Raises:
        UserError: it is not text, lacks a column or a value, or one video is in two subsets; says in which line.
    """
    database: dict[str, Any] = {}
    for line, row in _rows(data, source):
        entry = database.setdefault(row["video"], {"subset": row.get("subset", ""), "annotations": []})
        if entry["subset"] != row.get("subset", ""):
            raise UserError(f"{source}, line {line}: {row['video']} is of another subset than in the lines before")
        values = [row[name] for name in COLUMNS[1:]]
        if all(values):
            times = [Cell(row[name], source, line, name) for name in ("start", "end")]
            entry["annotations"].append({"label": row["label"], "segment": times})
        elif any(values):
            raise UserError(f"{source}, line {line}: label, start and end belong together, one of them is missing")
    return database


def _rows(data: bytes, source: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Lines by number, from 1, and their columns by name.

    Blanks around a cell are dropped, as nobody sees them in a table: `jump` and `jump ` are no two classes. Those of a
    video's name are kept; they may be a file's.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{source} is not text in UTF-8 (byte {error.start}): save the table as CSV in UTF-8") from None
    first = text.partition("\n")[0]
    table = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    try:
        header = [name.strip().lower() for name in next(table, [])]
        missing = [name for name in COLUMNS if name not in header]
        if missing or len(set(header)) < len(header):
            raise UserError(
                f"{source}, line 1: expected the columns {','.join(COLUMNS)}, each once, got {first[:80]!r}"
            )
        for cells in table:
            if any(cells):
                if len(cells) != len(header) or not cells[header.index("video")]:
                    raise UserError(f"{source}, line {table.line_num}: {len(header)} values and a video are expected")
                row = dict(zip(header, cells, strict=True))
                yield table.line_num, row | {name: cell.strip() for name, cell in row.items() if name != "video"}
    except csv.Error as error:
        raise UserError(f"{source}, line {table.line_num}: not CSV: {error}") from None
