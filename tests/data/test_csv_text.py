"""Annotations as a table: what is read, and what is refused with its line."""

import pickle

import pytest

from tadscale.data.annotations import parse_ground_truth, read_database
from tadscale.data.csv_text import parse_csv
from tadscale.errors import UserError
from tadscale.segments import Segment


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_lines_become_entries(separator: str) -> None:
    lines = ["Video, label,start,end", 'walk/a,"open, door",1,2.5', "walk/a,run,3,4", "", "b,,,"]
    text = "\r\n".join(lines if separator == "," else [line.replace(",", separator) for line in lines])
    label = "open, door" if separator == "," else f"open{separator} door"
    assert parse_csv(("\ufeff" + text).encode(), "a.csv") == {
        "walk/a": {
            "subset": "",
            "annotations": [{"label": label, "segment": ["1", "2.5"]}, {"label": "run", "segment": ["3", "4"]}],
        },
        "b": {"subset": "", "annotations": []},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the columns video,label,start,end"),
        ("a,jump,1,2\n", "line 1: expected the columns"),
        ("video,label,start,end,end\n", "each once"),
        ("video,label,start,end\na,jump,1\n", "line 2: 4 values"),
        ("video,label,start,end\na,jump,1,2\n,jump,1,2\n", "line 3: 4 values and a video"),
        ("video,label,start,end\na,,1,2\n", "line 2: label, start and end belong together"),
        ("video,label,start,end,subset\na,j,1,2,train\na,j,1,2,test\n", "line 3: a is of another subset"),
        ("video,label,start,end\na," + "x" * 200_000 + ",1,2\n", "line 2: not CSV"),
    ],
)
def test_what_is_no_such_table_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as raised:
        parse_csv(text.encode(), "a.csv")
    assert message in str(raised.value)


@pytest.mark.parametrize(("cells", "column"), [("1:30,2", "start"), ("1,nan", "end")])
def test_a_time_that_is_no_number_is_told_with_its_line_by_who_reads_its_video(cells: str, column: str) -> None:
    database = parse_csv(f"video,label,start,end\na,j,1,2\nb,j,1,2\na,j,{cells}\n".encode(), "a.csv")
    entry = pickle.loads(pickle.dumps(database["a"]))  # as another process has it
    with pytest.raises(UserError, match=rf"^a\.csv, line 4: {column} is '.*', expected a "):
        parse_ground_truth({"database": {"a": entry}}, "its annotation")
    assert parse_ground_truth({"database": {"b": database["b"]}}, "b")[0].segments == (Segment("j", 1.0, 2.0),)


def test_blanks_around_a_label_or_a_subset_are_none_of_its_name() -> None:
    text = "video, label, start, end, subset\na, jump, 1, 2, train\na,jump ,3,4,train\nb , , , ,test"
    assert parse_csv(text.encode(), "a.csv") == {
        "a": {
            "subset": "train",
            "annotations": [{"label": "jump", "segment": ["1", "2"]}, {"label": "jump", "segment": ["3", "4"]}],
        },
        "b ": {"subset": "test", "annotations": []},
    }


def test_a_file_is_read_by_its_suffix(tmp_path) -> None:
    (tmp_path / "a.CSV").write_bytes(b"video,label,start,end\na,jump,1,2\n")
    assert read_database(tmp_path / "a.CSV")["a"]["annotations"] == [{"label": "jump", "segment": ["1", "2"]}]
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="not text in UTF-8"):
        read_database(tmp_path / "b.csv")
