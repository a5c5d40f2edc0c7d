"""MultiTHUMOS: a text file a class, and the list of classes."""

from pathlib import Path

import pytest

from tadscale.errors import UserError
from tadscale.segments import Segment
from tests.data.importers import by_key, counts, import_files

FILES = {
    "README": "one temporal instance per line",
    "class_list.txt": "1 BaseballPitch\n22 Walk\n21 Run\n",
    "annotations/Walk.txt": "video_validation_0000051 0.0 1.5\nvideo_test_0000006 0.5 2.0\n",
    "annotations/Run.txt": "video_test_0000006 1.0 2.0\nvideo_test_0000006 1.0 2.0\nvideo_test_0000006 3.0 3.0\n",
}


def test_classes_overlap_and_come_in_the_order_of_the_list(tmp_path: Path) -> None:
    imported = import_files(tmp_path, "multithumos", FILES)
    assert by_key(imported) == {
        "video_test_0000006": ("test", [Segment("Run", 1, 2), Segment("Walk", 0.5, 2)]),
        "video_validation_0000051": ("validation", [Segment("Walk", 0, 1.5)]),
    }
    assert imported.classes == ("BaseballPitch", "Walk", "Run")
    assert sorted(counts(imported).values()) == [1, 1]  # twice, and without length


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Run\.txt:1: .*expected VIDEO START END"):
        import_files(tmp_path, "multithumos", {"Run.txt": "video_test_0000006 1.0\n"})
