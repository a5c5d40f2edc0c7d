import base64
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tadscale.serving.access import Access
from tadscale.serving.sources import UnavailableVideo, VideoSource, fetch_video, short_names, source_name
from tests.serving.web import serving

DATA = bytes(range(256)) * 5


def content(source: VideoSource, access: Access | None = None) -> bytes:
    video = fetch_video(source, access)
    return video if isinstance(video, bytes) else video.read()


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_paths_file_urls_and_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a clip.mp4"
    path.write_bytes(DATA)
    for source in (path, str(path), path.as_uri(), DATA):
        assert content(source) == DATA
    with pytest.raises(UnavailableVideo, match="cannot be read"):
        fetch_video(tmp_path / "none.mp4")
    with pytest.raises(UnavailableVideo, match="names the host 'a'"):
        fetch_video("file://a/clip.mp4")


def test_over_http() -> None:
    pages = {"/clip.mp4": DATA, "/moved": b"-> /clip.mp4", "/short/clip.mp4": DATA, "/out": b"-> file:///etc/passwd"}
    with serving(pages) as url:
        assert content(f"{url}/clip.mp4") == DATA
        assert content(f"{url}/moved") == DATA
        with pytest.raises(UnavailableVideo, match="404"):
            fetch_video(f"{url}/none.mp4")
        with pytest.raises(UnavailableVideo, match=r"broke after 640 of 1280 bytes|IncompleteRead"):
            fetch_video(f"{url}/short/clip.mp4")
        with pytest.raises(UnavailableVideo, match=r"file:///etc/passwd.* is not allowed"):
            fetch_video(f"{url}/out")
    with pytest.raises(UnavailableVideo, match="cannot be read"):
        fetch_video(f"{url}/clip.mp4")


def test_data_urls() -> None:
    assert content("data:video/mp4;base64," + base64.b64encode(DATA).decode()) == DATA
    assert content("data:,a%20b") == b"a b"
    with pytest.raises(UnavailableVideo, match="base64 is damaged"):
        fetch_video("data:video/mp4;base64,###")
    with pytest.raises(UnavailableVideo, match="without a comma"):
        fetch_video("data:video/mp4;base64")


def test_from_s3(s3_url: str) -> None:
    from tadscale.data.storage import write_bytes

    write_bytes(f"{s3_url}/clip.mp4", DATA)
    assert content(f"{s3_url}/clip.mp4") == DATA
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
    assert content("data:,a") == b"a"
    monkeypatch.setenv("TADSCALE_VIDEO_SCHEMES", "http")
    with (
        serving({"/out": b"-> https://127.0.0.1:1/"}) as url,
        pytest.raises(UnavailableVideo, match="redirects to https:, which is not allowed"),
    ):
        fetch_video(f"{url}/out")


def test_no_source_is_read_beyond_the_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(DATA)
    with serving({"/clip.mp4": DATA}) as url:
        for source in (path, f"{url}/clip.mp4"):
            with pytest.raises(UnavailableVideo, match="larger than"):
                fetch_video(source, Access(max_bytes=1000))
            assert content(source, Access(max_bytes=len(DATA))) == DATA


def test_only_regular_files_are_read_and_no_read_waits(tmp_path: Path) -> None:
    """/dev/zero has no end, and a pipe without a writer no beginning."""
    pipe = tmp_path / "pipe.mp4"
    os.mkfifo(pipe)
    for source in (pipe, "/dev/zero", tmp_path, pipe.as_uri()):
        with pytest.raises(UnavailableVideo, match="a folder, a device or a pipe"):
            fetch_video(source)


@pytest.mark.parametrize(
    "source",
    ["a\0b", "http://127.0.0.1:99999/", "http://127.0.0.1:x/", "http://[x/", "http://" + "a" * 70 + ".b/", "http:///x",
     "file:///a%00b", "s3://", "x" * 5000, "\ud800"],
)  # fmt: skip
def test_what_is_no_source_is_that_sources_fault_alone(source: str) -> None:
    with pytest.raises(UnavailableVideo):
        fetch_video(source)
    assert short_names([source, "a.mp4"])[1] == "a"


@contextmanager
def dripping(first: bytes, each: bytes) -> Iterator[str]:
    """A server that sends something every 20 ms, for ever."""
    server, over = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def serve() -> None:
        with suppress(OSError):
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(first)
                while not over.wait(0.02):
                    connection.sendall(each)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/clip.mp4"
    finally:
        over.set()
        server.close()
        thread.join(10)


@pytest.mark.parametrize(
    ("first", "each"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n", b"x"),  # a header that never ends
        (b"", b""),  # silence
    ],
)
def test_a_server_that_drips_is_cut_off_at_the_deadline(first: bytes, each: bytes) -> None:
    """No read of it ever times out: something always comes."""
    started = time.monotonic()
    with dripping(first, each) as url, pytest.raises(UnavailableVideo, match=r"not here after 0\.4 s"):
        fetch_video(url, Access(deadline_s=0.4))
    assert time.monotonic() - started < 5


def test_hosts_and_addresses_are_checked_at_every_turn() -> None:
    with serving({"/clip.mp4": DATA, "/out": b"-> http://localhost:1/"}) as url:
        assert content(f"{url}/clip.mp4", Access(hosts=("127.0.0.1",))) == DATA
        for path in ("clip.mp4", "out"):
            with pytest.raises(UnavailableVideo, match="not public"):
                fetch_video(f"{url}/{path}", Access(public_only=True))
        with pytest.raises(UnavailableVideo, match="host 'localhost' is not allowed"):
            fetch_video(f"{url}/out", Access(hosts=("127.0.0.1",)))
        with pytest.raises(UnavailableVideo, match=r"host '127.0.0.1' is not allowed \(TADSCALE_VIDEO_HOSTS\)"):
            fetch_video(f"{url}/clip.mp4", Access(hosts=("media.example.org",)))


def test_names_of_urls_are_those_that_people_wrote() -> None:
    """Else no detection meets its ground truth: data sets have blanks in names."""
    urls = ["https://host/v/my%20clip.mp4?x=a/b", "file:///v/H%C3%B6he.mp4", "s3://b/a%20b.mp4"]
    assert short_names([*urls, "c%20d.mp4", "v1.5", "w_0.5.MP4"]) == [
        "my clip", "Höhe", "a%20b", "c%20d", "v1.5", "w_0.5",
    ]  # fmt: skip


def test_names() -> None:
    given = ["a/x.mp4", "https://host/v/y.mp4?token=1", b"", "data:,a", "b/z.mp4", "c/z.mp4", Path("d/w.mp4")]
    assert [source_name(source, index) for index, source in enumerate(given)] == [
        "a/x.mp4", "https://host/v/y.mp4?token=1", "video-2", "video-3", "b/z.mp4", "c/z.mp4", "d/w.mp4",
    ]  # fmt: skip
    assert short_names(given) == ["x", "y", "video-2", "video-3", "b/z.mp4", "c/z.mp4", "w"]
