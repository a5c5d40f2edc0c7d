"""Finding and reading published files: places of lines, times, and what is refused."""

import re
from pathlib import Path

import pytest

from tadscale.data.importers.files import class_list, lines_of, matching, published_files, rows_of, seconds
from tadscale.data.storage import StorageError
from tadscale.errors import UserError
from tests.data.importers import write_files


def test_folders_are_searched_and_files_taken_as_they_are(tmp_path: Path) -> None:
    folder = write_files(tmp_path, {"a/one.txt": "", "a/b/two.txt": "", "a/._one.txt": "", "three.txt": ""})
    found = published_files([f"{folder}/a", f"{folder}/three.txt", f"{folder}/a/one.txt"])
    assert [url.removeprefix(folder) for url in found] == ["/a/b/two.txt", "/a/one.txt", "/three.txt"]
    with pytest.raises(StorageError, match="gone"):
        list(lines_of(published_files([f"{folder}/gone.txt"])[0]))


def test_no_file_of_the_form_is_an_error_that_names_both() -> None:
    assert matching(["x/a.json"], re.compile("a.txt")) == []
    with pytest.raises(UserError, match=r"none of the 1 files given \(a\.json\) is one of a\.txt"):
        matching(["x/a.json"], re.compile("a.txt"), "a.txt")


@pytest.mark.parametrize(
    ("text", "value"), [("1.5", 1.5), (" 3 ", 3.0), ("00:00:03.37", 3.37), ("1:02:03", 3723.0), ("-1", -1.0)]
)
def test_times(text: str, value: float) -> None:
    assert seconds(text, "a:1") == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "nan", "inf", "1,5", "00:61:00", "soon"])
def test_what_is_no_time_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(UserError, match=r"a\.csv:3: .* is no time"):
        seconds(text, "a.csv:3")


def test_rows_carry_the_line_they_end_in(tmp_path: Path) -> None:
    url = write_files(tmp_path, {"a.csv": '\ufeffid,text\n1,"two\nlines"\n\n2,one\n'}) + "/a.csv"
    assert list(rows_of(url, ("id",))) == [
        (f"{url}:3", {"id": "1", "text": "two\nlines"}),
        (f"{url}:5", {"id": "2", "text": "one"}),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\n1\n", r"a\.csv:1: no column text"),
        ("id,text\n1,a\n2\n", r"a\.csv:3: 1 values where the header names 2"),
        ("", r"a\.csv:1: no column id, text"),
        ("id,text\n1," + "x" * 200_000 + "\n", r"a\.csv:2: not CSV"),
    ],
)
def test_damaged_tables_are_refused_with_their_line(tmp_path: Path, text: str, message: str) -> None:
    url = write_files(tmp_path, {"a.csv": text}) + "/a.csv"
    with pytest.raises(UserError, match=message):
        list(rows_of(url, ("id", "text")))


def test_class_lists(tmp_path: Path) -> None:
    folder = write_files(tmp_path, {"a.txt": "7 BaseballPitch\n9 Basketball Dunk\n", "b.txt": "7 A\n7 B\n"})
    assert class_list(f"{folder}/a.txt") == {"7": "BaseballPitch", "9": "Basketball Dunk"}
    with pytest.raises(UserError, match=r"b\.txt:2: '7 B' is no class"):
        class_list(f"{folder}/b.txt")


def test_an_archive_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"PK\x03\x04\xff\xff")
    with pytest.raises(UserError, match=r"not text in UTF-8.*Unpack it"):
        list(lines_of(str(tmp_path / "a.txt")))
