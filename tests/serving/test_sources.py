import base64
from pathlib import Path

import pytest

from tadscale.serving import sources
from tadscale.serving.sources import UnavailableVideo, fetch_video, short_names, source_name
from tests.serving.web import serving

DATA = bytes(range(256)) * 5


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_paths_file_urls_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a clip.mp4"
    path.write_bytes(DATA)
    for source in (path, str(path), path.as_uri(), DATA):
        assert fetch_video(source) == DATA
    with pytest.raises(UnavailableVideo, match="cannot be read"):
        fetch_video(tmp_path / "none.mp4")
    with pytest.raises(UnavailableVideo, match="names the host 'a'"):
        fetch_video("file://a/clip.mp4")


def test_over_http() -> None:
    pages = {"/clip.mp4": DATA, "/moved": b"-> /clip.mp4", "/short/clip.mp4": DATA, "/out": b"-> file:///etc/passwd"}
    with serving(pages) as url:
        assert fetch_video(f"{url}/clip.mp4") == DATA
        assert fetch_video(f"{url}/moved") == DATA
        with pytest.raises(UnavailableVideo, match="404"):
            fetch_video(f"{url}/none.mp4")
        with pytest.raises(UnavailableVideo, match=r"broke after 640 of 1280 bytes|IncompleteRead"):
            fetch_video(f"{url}/short/clip.mp4")
        with pytest.raises(UnavailableVideo, match=r"file:///etc/passwd.* is not allowed"):
            fetch_video(f"{url}/out")
    with pytest.raises(UnavailableVideo, match="cannot be read"):
        fetch_video(f"{url}/clip.mp4")


def test_data_urls() -> None:
    assert fetch_video("data:video/mp4;base64," + base64.b64encode(DATA).decode()) == DATA
    assert fetch_video("data:,a%20b") == b"a b"
    with pytest.raises(UnavailableVideo, match="base64 is damaged"):
        fetch_video("data:video/mp4;base64,###")
    with pytest.raises(UnavailableVideo, match="without a comma"):
        fetch_video("data:video/mp4;base64")


def test_from_s3(s3_url: str) -> None:
    from tadscale.data.storage import write_bytes

    write_bytes(f"{s3_url}/clip.mp4", DATA)
    assert fetch_video(f"{s3_url}/clip.mp4") == DATA
    with pytest.raises(UnavailableVideo, match="cannot be read"):
        fetch_video(f"{s3_url}/none.mp4")


def test_only_allowed_schemes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.mp4").write_bytes(DATA)
    for url in ("ftp://host/clip.mp4", "gs://bucket/clip.mp4", "zip://clip.mp4"):
        with pytest.raises(UnavailableVideo, match="is not allowed"):
            fetch_video(url)
    monkeypatch.setenv("TADSCALE_VIDEO_SCHEMES", "https, data")
    for source in (
        tmp_path / "clip.mp4",
        str(tmp_path / "clip.mp4"),
        (tmp_path / "clip.mp4").as_uri(),
        "http://h/c.mp4",
    ):
        with pytest.raises(
            UnavailableVideo, match=r"is not allowed; allowed are https, data \(TADSCALE_VIDEO_SCHEMES\)"
        ):
            fetch_video(source)
    assert fetch_video("data:,a") == b"a"
    monkeypatch.setenv("TADSCALE_VIDEO_SCHEMES", "http")
    with (
        serving({"/out": b"-> https://127.0.0.1:1/"}) as url,
        pytest.raises(UnavailableVideo, match="redirects to https:, which is not allowed"),
    ):
        fetch_video(f"{url}/out")


def test_no_source_is_read_beyond_the_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_VIDEO_BYTES", 1000)
    path = tmp_path / "clip.mp4"
    path.write_bytes(DATA)
    with serving({"/clip.mp4": DATA}) as url:
        for source in (path, f"{url}/clip.mp4"):
            with pytest.raises(UnavailableVideo, match="larger than"):
                fetch_video(source)


def test_names() -> None:
    given = ["a/x.mp4", "https://host/v/y.mp4?token=1", b"", "data:,a", "b/z.mp4", "c/z.mp4", Path("d/w.mp4")]
    assert [source_name(source, index) for index, source in enumerate(given)] == [
        "a/x.mp4", "https://host/v/y.mp4?token=1", "video-2", "video-3", "b/z.mp4", "c/z.mp4", "d/w.mp4",
    ]  # fmt: skip
    assert short_names(given) == ["x", "y", "video-2", "video-3", "b/z.mp4", "c/z.mp4", "w"]
