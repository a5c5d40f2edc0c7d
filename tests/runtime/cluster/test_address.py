"""A cluster that is not there is told in seconds, in one line."""

import socket
import time
from collections.abc import Iterator

import pytest

from tadscale.errors import UserError
from tadscale.runtime.cluster.address import ask_cluster, check_listening
from tadscale.runtime.cluster.capacity import ClusterConfig, connect


@pytest.fixture
def silent() -> Iterator[str]:
    """Something that listens, and is no cluster."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def gone() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_nobody_listens(scheme):
    address = scheme + gone()
    started = time.monotonic()
    with pytest.raises(UserError, match="no Ray cluster answers at") as refusal:
        check_listening(address)
    assert time.monotonic() - started < 10
    assert address in str(refusal.value)
    assert "RAY_ADDRESS" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_stale_ray_address_ends_a_job_at_once(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", gone())
    started = time.monotonic()
    with pytest.raises(UserError, match="no Ray cluster answers"):
        connect(ClusterConfig())
    assert time.monotonic() - started < 20  # Ray itself is imported before


def test_what_listens_and_is_no_cluster_is_left_in_time(silent, monkeypatch):
    monkeypatch.setattr("tadscale.runtime.cluster.address.overload", lambda: 1.0)
    started = time.monotonic()
    with pytest.raises(UserError, match=f"{silent}.*did not answer as a Ray cluster"):
        ask_cluster(silent, timeout_s=3)
    assert time.monotonic() - started < 10


def test_a_cluster_that_runs_says_what_it_offers_and_how_late_it_is(cluster):
    import ray

    offer = ask_cluster(ray.get_runtime_context().gcs_address, clocks=True)
    assert (offer.nodes, offer.resources["CPU"], offer.version) == (1, 4.0, ray.__version__)
    assert offer.skew_s < 1.0  # its clock is this machine's


@pytest.mark.parametrize("address", ["", ":6379", "head:port", "http://[::1"])
def test_what_is_no_address_is_said_so(address):
    with pytest.raises(UserError, match="is no address of a Ray cluster"):
        check_listening(address)
