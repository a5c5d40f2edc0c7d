"""Every fault of the proxy is one that a client meets, and that the storage layer bears."""

import os

import pytest

from benchmarks.chaos import proxy as module
from benchmarks.chaos.proxy import FAULTS, FaultyProxy
from tadscale.data.faults import Retry
from tadscale.data.storage import StorageError, join, list_names, read_bytes, write_bytes

DATA = bytes(range(256)) * 40
PATIENT = Retry(4, 0.05)


@pytest.fixture
def proxy(s3_url, monkeypatch):
    """In front of the test's server; faults come when a test asks for them."""
    monkeypatch.setattr(module, "STALL_S", 1.5)
    monkeypatch.setattr("tadscale.data.storage.READ_TIMEOUT_S", 1)
    faulty = FaultyProxy(os.environ["AWS_ENDPOINT_URL"], seed=1)
    with faulty.serving() as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        yield faulty


def test_without_faults_it_is_the_server(proxy, s3_url):
    url = join(s3_url, "folder", "a b.safetensors")
    write_bytes(url, DATA)
    assert read_bytes(url) == DATA
    assert list_names(join(s3_url, "folder")) == ["a b.safetensors"]
    assert proxy.requests > 0 and not proxy.met


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_borne_once_and_does_not_pass_for_data(fault, proxy, s3_url, monkeypatch):
    """One upload meets it, and later one answer that carries the data."""
    url, coming = join(s3_url, "folder/a.safetensors"), {"PUT"}

    def draw(method: str, path: str):
        if method in coming and "folder/a" in path and module._possible(fault, method, path):
            coming.discard(method)
            return fault
        return None

    monkeypatch.setattr(proxy, "draw", draw)
    write_bytes(url, DATA, retry=PATIENT)
    coming.add("GET")
    received = read_bytes(url, retry=PATIENT)
    assert "GET" not in coming
    if fault == "corrupted":  # a reader of such an object has a digest; here it shows that the fault was one
        assert received == module.flipped(DATA, bit=1)
        received = read_bytes(url)
    assert received == DATA


def test_storage_that_stays_away_is_an_error_in_the_end(proxy, s3_url):
    proxy.away = True
    with pytest.raises(StorageError):
        read_bytes(join(s3_url, "x"), retry=Retry(2, 0.01))
    assert proxy.met["SlowDown"] >= 2


def test_the_same_seed_gives_the_same_faults():
    def drawn(seed: int) -> list[str | None]:
        faulty = FaultyProxy("http://127.0.0.1:1", seed=seed)
        faulty.share = 0.5
        return [faulty.draw("GET", "/bucket/x.tar") for _ in range(200)]

    assert drawn(3) == drawn(3) != drawn(4)
    assert set(filter(None, drawn(3))) == set(FAULTS)
