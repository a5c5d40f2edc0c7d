"""Rows of features: their times, and reading them out of bytes that anyone may have written."""

import io

import numpy as np
import pytest

from tadscale.data.features import FeatureRows, UnreadableFeatures, cut_rows, npy_bytes, parse_rows

I3D = FeatureRows(channels=1024, stride=4, offset=8, video_fps=30)


def test_times_are_those_of_published_code():
    """ActionFormer on THUMOS14's I3D features (clips of 16 frames, stride 4), by its own formulas."""
    clip_frames, stride, fps = 16, 4, 30.0
    times_s = np.array([0.0, 1.0, 12.34, 200.0])
    rows = (times_s * fps - 0.5 * clip_frames) / stride
    assert np.allclose(I3D.to_rows(times_s), rows, rtol=0, atol=1e-12)
    assert np.allclose(I3D.to_seconds(rows), (rows * stride + 0.5 * clip_frames) / fps, rtol=0, atol=1e-12)
    assert I3D.to_rows(8 / 30) == 0.0  # the middle of the first clip
    assert I3D.fps == 7.5


def test_seconds_come_back():
    times_s = np.random.default_rng(0).uniform(0, 1000, 100)
    for rows in (I3D, FeatureRows(channels=1, stride=16, offset=7.5, video_fps=29.97)):
        assert np.allclose(rows.to_seconds(rows.to_rows(times_s)), times_s, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_are_what_numpy_wrote(kind, order):
    rows = np.asarray(np.random.default_rng(0).normal(size=(7, 3)), kind, order=order)
    stream = io.BytesIO()
    np.save(stream, rows)
    assert np.array_equal(parse_rows(stream.getvalue()), rows)
    cut = cut_rows(stream.getvalue(), 2, 4, 3)
    assert cut.dtype == np.float32
    assert np.array_equal(cut, rows[2:6].astype(np.float32))
    assert np.array_equal(np.load(io.BytesIO(npy_bytes(rows)), allow_pickle=False), rows)


def saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


BAD = {
    "another format": (b"PK\x03\x04 of a zip", "no .npy file"),
    "nothing": (b"", "no .npy file"),
    "objects, which would be unpickled": (saved(np.array([[{}]], object)), "and the file holds object"),
    "whole numbers": (saved(np.zeros((3, 2), np.int64)), "int64"),
    "one axis": (saved(np.zeros(3, np.float32)), r"\[3\]"),
    "no row": (saved(np.zeros((0, 4), np.float32)), r"\[0, 4\]"),
    "cut short": (saved(np.zeros((3, 2), np.float32))[:-1], "23 bytes of features instead of the 24"),
    "a header that asks for a terabyte": (
        saved(np.zeros((3, 2), np.float32)).replace(b"(3, 2), }", b"(99999999, 2), }").replace(b"       \n", b"\n", 1),
        "cut short|no .npy file",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_features_is_refused(name):
    data, says = BAD[name]
    with pytest.raises(UnreadableFeatures, match=says):
        parse_rows(data)


def test_a_cut_is_of_the_channels_and_rows_that_are_there():
    data = npy_bytes(np.zeros((5, 3), np.float32))
    with pytest.raises(UnreadableFeatures, match="3 channels instead of 4"):
        cut_rows(data, 0, 5, 4)
    with pytest.raises(UnreadableFeatures, match="5 rows, and 6 were to be read"):
        cut_rows(data, 2, 4)
    with pytest.raises(UnreadableFeatures, match="not all finite"):
        cut_rows(npy_bytes(np.full((5, 3), np.nan, np.float32)), 0, 1)
