"""Storage by URL: what is read is what was written, faults are named, and nothing waits for long."""

import errno
import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tadscale.data import storage
from tadscale.data.storage import (
    CorruptMember,
    Retry,
    StorageError,
    join,
    list_folders,
    list_names,
    open_filesystem,
    read_bytes,
    read_range,
    remove,
    remove_folder,
    upload,
    with_retry,
    write_bytes,
)
from tests.s3 import S3Server, free_port

DATA = bytes(range(256)) * 40
QUICK = Retry(attempts=3, first_wait_s=0.01)


@pytest.fixture(params=["local", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder that does not exist yet, on each kind of storage."""
    if request.param == "s3":
        return join(request.getfixturevalue("s3_url"), "some/prefix")
    folder = str(tmp_path / "some" / "prefix")
    return folder if request.param == "local" else f"file://{folder}"


def test_files_come_back_whole_and_in_parts(url: str, tmp_path: Path) -> None:
    assert list_names(url) == []
    write_bytes(join(url, "b"), b"old")
    write_bytes(join(url, "b"), DATA)
    local = tmp_path / "local"
    local.write_bytes(DATA[::-1])
    upload(local, join(url, "a"))
    write_bytes(join(url, "folder", "c"), b"x")
    assert list_names(url) == ["a", "b"]
    assert read_bytes(join(url, "a")) == DATA[::-1]
    assert read_range(join(url, "b"), 300, 500, hashlib.sha256(DATA[300:800]).hexdigest()) == DATA[300:800]
    assert read_range(join(url, "b"), 300, 0) == b""
    remove(join(url, "a"))
    assert list_names(url) == ["b"]
    assert list_folders(url) == ["folder"]
    remove_folder(join(url, "folder"))
    assert list_folders(url) == []


def test_a_range_that_does_not_verify_is_the_members_fault(url: str) -> None:
    write_bytes(join(url, "b"), DATA)
    size = len(DATA)
    with pytest.raises(CorruptMember, match="10 bytes instead of 11"):
        read_range(join(url, "b"), size - 10, 11)
    with pytest.raises(CorruptMember, match="0 bytes instead of 5"):
        read_range(join(url, "b"), size + 100, 5)
    with pytest.raises(CorruptMember, match="the digest is not 0000"):
        read_range(join(url, "b"), 0, 5, "0" * 64)


def test_a_missing_file_or_bucket_is_a_storage_error_at_once(url: str) -> None:
    started = time.monotonic()
    for attempt in (
        lambda: read_range(join(url, "none"), 0, 5),
        lambda: read_bytes(join(url, "none")),
        lambda: remove(join(url, "none")) if not url.startswith("s3") else read_bytes(join(url, "none")),
    ):
        with pytest.raises(StorageError, match=r"no such file, folder or bucket.*Check the URL"):
            attempt()
    assert time.monotonic() - started < 5


def test_a_range_damaged_on_its_way_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(str(tmp_path / "b"), DATA)
    filesystem, _ = open_filesystem(str(tmp_path))
    right, answers = type(filesystem).cat_file, iter([b"wrong", b"sho", None])

    def flaky(self: object, path: str, start: int, end: int) -> bytes:
        answer = next(answers)
        return right(self, path, start, end) if answer is None else answer

    monkeypatch.setattr(type(filesystem), "cat_file", flaky)
    with pytest.raises(CorruptMember):  # twice is enough
        read_range(str(tmp_path / "b"), 0, 5, hashlib.sha256(DATA[:5]).hexdigest())
    assert read_range(str(tmp_path / "b"), 0, 5, hashlib.sha256(DATA[:5]).hexdigest()) == DATA[:5]


@pytest.mark.parametrize("passing", [ConnectionResetError(), TimeoutError(), OSError(errno.EBUSY, "SlowDown")])
def test_passing_faults_are_borne_with_growing_waits(passing: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(storage.time, "sleep", waits.append)
    outcomes: list[object] = [passing, passing, "done"]

    def operation() -> object:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert with_retry(operation, "u", Retry(3, 0.5)) == "done"
    assert waits == [0.5, 1.0]
    outcomes[:] = [passing] * 3
    with pytest.raises(StorageError, match=r"\(3 attempts\)") as caught:
        with_retry(operation, "u", Retry(3, 0.5))
    assert caught.value.__cause__ is passing
    assert len(waits) == 4


@pytest.mark.parametrize("fault", [MemoryError(), OSError(errno.ENOSPC, "No space left on device"), KeyError("bug")])
def test_faults_of_the_system_and_bugs_pass_through_unchanged(fault: Exception) -> None:
    def operation() -> None:
        raise fault

    with pytest.raises(type(fault)) as caught:
        with_retry(operation, "u", QUICK)
    assert caught.value is fault


def test_an_interrupted_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = str(tmp_path / "a")
    write_bytes(target, b"old")
    filesystem, _ = open_filesystem(target)

    def half(self: object, path: str, data: bytes) -> None:
        Path(path).write_bytes(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(type(filesystem), "pipe_file", half)
    with pytest.raises(OSError, match="No space"):
        write_bytes(target, DATA)
    assert read_bytes(target) == b"old"
    assert list_names(str(tmp_path)) == ["a"]


@pytest.mark.parametrize("url", ["http://x/y", "sftp://x/y", "simplecache::s3://x/y", "s3::file://x", "memory://x"])
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="local path, file:// or s3://"):
        read_bytes(url)


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="AWS_ACCESS_KEY_ID") as caught:
        read_bytes("s3://key:geheim@bucket/x")
    assert "geheim" not in str(caught.value)


def test_a_dead_endpoint_fails_soon_and_says_what_to_check(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    started = time.monotonic()
    with pytest.raises(StorageError, match=r"cannot be reached.*Check AWS_ENDPOINT_URL"):
        read_range(join(s3_url, "x"), 0, 5, retry=QUICK)
    assert time.monotonic() - started < 10


def test_a_session_token_that_has_expired_is_named(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 answers 400 to a request for a file's head, which has no body to say why."""

    def answer(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        raise OSError("done")

    with speaking(answer) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        for read in (read_bytes, list_names):
            with pytest.raises(StorageError, match=r"session token that has expired \(AWS_SESSION_TOKEN\).*AWS_REGION"):
                read(join(s3_url, "x"), retry=QUICK)


def test_a_file_system_that_is_read_only_is_said_to_be() -> None:
    def operation() -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/data/x")

    with pytest.raises(StorageError, match=r"storage is read-only: .*/data/x.*Mount it"):
        with_retry(operation, "/data/x", QUICK)


def test_a_silent_endpoint_does_not_hang_us(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that accepts and never answers."""
    monkeypatch.setattr(storage, "READ_TIMEOUT_S", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        with pytest.raises(StorageError, match="cannot be reached"):
            read_bytes(join(s3_url, "x"), retry=Retry(2, 0.01))
        assert time.monotonic() - started < 10


@contextmanager
def speaking(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server on loopback that treats every connection in this way, until the block ends."""
    over = threading.Event()

    def serve(server: socket.socket) -> None:
        while not over.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    def handle(connection: socket.socket) -> None:
        with connection:
            try:
                while not over.is_set():
                    answer(connection)
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        over.set()
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def drip(connection: socket.socket) -> None:
    """An answer that would be whole in 16 days: 64 bytes a second, so that no pause is ever long."""
    connection.recv(1 << 16)
    connection.sendall(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 90000000\r\n\r\n")
    while True:
        connection.sendall(b"x" * 6)
        time.sleep(0.1)


def test_a_drip_ends_by_the_total_deadline(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with speaking(drip) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        for read in (
            lambda retry: read_range(join(s3_url, "x"), 0, 5 << 10, retry=retry),
            lambda retry: write_bytes(join(s3_url, "x"), DATA, retry=retry),
        ):
            started = time.monotonic()
            with pytest.raises(StorageError, match="cannot be reached"):
                read(Retry(6, 0.01, total_s=1.5))
            assert time.monotonic() - started < 5


def test_a_stalled_operation_takes_no_longer_than_its_attempts_together(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six attempts at an endpoint that never answers took six times the socket's time-out."""
    monkeypatch.setattr(storage, "READ_TIMEOUT_S", 1)
    with speaking(lambda connection: time.sleep(0.1)) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        started = time.monotonic()
        with pytest.raises(StorageError, match="cannot be reached"):
            list_names(s3_url, retry=Retry(20, 0.01, total_s=2.5))
        assert time.monotonic() - started < 6


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("harm", [flip, lambda data: data[:-7], lambda data: None], ids=["flipped", "cut", "dropped"])
@pytest.mark.parametrize("lasting", [False, True])
def test_what_an_object_store_damages_does_not_count_as_written(
    harm: Callable[[bytes], bytes | None], lasting: bool, s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    filesystem, _ = open_filesystem(s3_url)
    right, attempts = filesystem._call_s3, []

    async def unfaithful(method: str, *arguments: object, **more: object) -> object:
        if method == "put_object" and (lasting or not attempts):
            attempts.append(method)
            body = harm(more["Body"])
            if body is None:
                return {}
            more["Body"] = body
        return await right(method, *arguments, **more)

    monkeypatch.setattr(filesystem, "_call_s3", unfaithful)
    local = tmp_path / "local"
    local.write_bytes(DATA)
    for name, write in (
        ("a", lambda url: write_bytes(url, DATA, retry=QUICK)),
        ("b", lambda url: upload(local, url, retry=QUICK)),
    ):
        attempts.clear()
        if lasting:
            with pytest.raises(StorageError, match=r"does not keep what was written \(3 attempts\)"):
                write(join(s3_url, name))
        else:
            write(join(s3_url, name))
            assert read_bytes(join(s3_url, name)) == DATA


def test_parts_are_verified_by_the_store_s_tag_and_without_one_by_reading_back(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "PART_BYTES", 5 << 20)  # the least that S3 takes
    data = bytes(range(256)) * (11 << 12)  # 11 MiB: three parts
    url = join(s3_url, "parts")
    filesystem, path = open_filesystem(url)
    calls: list[str] = []
    right = filesystem._call_s3

    async def counted(method: str, *arguments: object, **more: object) -> object:
        calls.append(method)
        return await right(method, *arguments, **more)

    monkeypatch.setattr(filesystem, "_call_s3", counted)
    write_bytes(url, data)
    assert filesystem.info(path)["ETag"].endswith('-3"')
    assert "get_object" not in calls
    monkeypatch.setattr(storage._Content, "etag", lambda self: "as of an encrypted bucket")
    write_bytes(url, data)
    assert calls.count("get_object") == 3
    assert read_bytes(url) == data


@pytest.mark.parametrize("lasting", [False, True])
def test_an_upload_that_the_store_gave_up_is_begun_again_and_not_a_missing_file(
    lasting: bool, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "PART_BYTES", 5 << 20)
    data = bytes(range(256)) * (11 << 12)
    filesystem, _ = open_filesystem(s3_url)
    right, given_up = filesystem._call_s3, []

    async def given_up_on(method: str, *arguments: object, **more: object) -> object:
        if method == "upload_part" and (lasting or not given_up):
            given_up.append(more["UploadId"])
            which = {name: more[name] for name in ("Bucket", "Key", "UploadId")}
            await right("abort_multipart_upload", **which)
        return await right(method, *arguments, **more)

    monkeypatch.setattr(filesystem, "_call_s3", given_up_on)
    url = join(s3_url, "parts")
    if lasting:
        with pytest.raises(StorageError, match=r"gave up an upload on the way \(3 attempts\)"):
            write_bytes(url, data, retry=QUICK)
    else:
        write_bytes(url, data, retry=QUICK)
        assert given_up and read_bytes(url) == data


@pytest.mark.parametrize("url", ["sftp://me:geheim@host/x", "s3://me:geheim@bucket/x", "http://me:geh/eim@host/x"])
def test_no_refusal_repeats_a_password(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        write_bytes(url, b"")
    assert "geh" not in str(caught.value)


def test_an_endpoint_s_password_is_in_no_error(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://me:geheim@127.0.0.1:{free_port()}")
    with pytest.raises(StorageError, match="cannot be reached") as caught:
        read_bytes(join(s3_url, "x"), retry=QUICK)
    assert "geheim" not in str(caught.value)


def test_missing_credentials_are_named(s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_bytes(join(s3_url, "x"), DATA)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))  # nobody's ~/.aws
    with pytest.raises(StorageError, match=r"no S3 credentials.*AWS_ACCESS_KEY_ID"):
        read_bytes(join(s3_url, "x"))


def test_wrong_credentials_are_named(s3_server: S3Server, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes(join(s3_url, "x"), DATA)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAUNKNOWN")
    with s3_server.checking_credentials():
        started = time.monotonic()
        with pytest.raises(StorageError, match=r"access denied.*AWS_SECRET_ACCESS_KEY are wrong or expired") as caught:
            read_bytes(join(s3_url, "x"))
        with pytest.raises(StorageError, match="access denied"):
            write_bytes(join(s3_url, "y"), DATA)
        with pytest.raises(StorageError, match="access denied"):
            list_names(s3_url)
        assert time.monotonic() - started < 15
    assert "test-secret" not in str(caught.value)


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_bytes("~/a/b", b"x")
    assert (tmp_path / "a" / "b").read_bytes() == read_bytes("file://~/a/b") == b"x"
