"""Who may talk to whom, flow by flow: those that are needed pass in every overlay, and the others do not."""

import pytest

from tests.infra.network_policy import End, allowed, outside
from tests.infra.overlays import PLACES, pods, rendered

OPERATOR = End({"app.kubernetes.io/name": "kuberay-operator"}, namespace="operators")
DNS = End({"k8s-app": "kube-dns"}, namespace="kube-system")
PROMETHEUS = End({"app.kubernetes.io/name": "prometheus"}, namespace="monitoring")
NEIGHBOUR = End({"tadscale-role": "worker"}, namespace="default", address="10.9.9.9")
BUCKET, API, METADATA = outside("52.216.1.1"), outside("10.96.0.1"), outside("169.254.169.254")
DATABASE, INTERNET = outside("10.20.0.5"), outside("198.51.100.7")
RAY = ("head", "data", "motion", "train")

NEEDED = [
    ("data", "head", 6379),  # a worker joins
    ("head", "train", 40123),  # the scheduler starts a process
    ("train", "data", 40124),  # an object is fetched
    ("motion", "train", 50000),  # gradients, between the ports that torch chose
    ("submitter", "head", 8265),
    (OPERATOR, "head", 8265),
    ("head", API, 443),  # the autoscaler
    ("retrain", API, 6443),
    ("retrain", "mlflow", 5000),  # who is champion, and what it was trained on
    ("retrain", BUCKET, 443),
    ("mlflow", BUCKET, 443),
    *((role, "mlflow", 5000) for role in RAY),
    *((role, BUCKET, 443) for role in RAY),
]
REFUSED = [
    ("submitter", "mlflow", 5000),
    ("submitter", "train", 40123),
    ("submitter", BUCKET, 443),
    ("retrain", "head", 8265),
    ("mlflow", "head", 8265),
    ("mlflow", API, 443),
    ("train", API, 443),
    (NEIGHBOUR, "head", 8265),
    (NEIGHBOUR, "mlflow", 5000),
    (OPERATOR, "mlflow", 5000),
    (OPERATOR, "head", 6379),
    (INTERNET, "head", 8265),
    (INTERNET, "mlflow", 5000),
    ("train", NEIGHBOUR, 443),
    ("data", INTERNET, 25),
    *((role, METADATA, 80) for role in (*RAY, "mlflow", "retrain", "submitter")),
    *((role, METADATA, 443) for role in (*RAY, "mlflow", "retrain", "submitter")),
]


def passes(place: str, source: str | End, target: str | End, port: int, protocol: str = "TCP") -> bool:
    ends = [End(pods(place)[end].labels) if isinstance(end, str) else end for end in (source, target)]
    policies = [document for document in rendered(place) if document["kind"] == "NetworkPolicy"]
    return allowed(policies, *ends, port, protocol)


@pytest.mark.parametrize("place", PLACES)
def test_flows_that_are_needed_pass(place: str) -> None:
    assert [flow for flow in NEEDED if not passes(place, *flow)] == []


@pytest.mark.parametrize("place", PLACES)
def test_minikube_s_api_is_reached_where_it_is_meant(place: str) -> None:
    for role in ("head", "retrain"):
        assert passes(place, role, API, 8443) == (place == "overlays/dev")


@pytest.mark.parametrize("place", PLACES)
def test_all_others_do_not(place: str) -> None:
    assert [flow for flow in REFUSED if passes(place, *flow)] == []


@pytest.mark.parametrize("place", PLACES)
def test_everyone_asks_for_names_and_for_nothing_else_there(place: str) -> None:
    for role in pods(place):
        assert passes(place, role, DNS, 53, "UDP")
        assert passes(place, role, DNS, 53)
        assert not passes(place, role, DNS, 9153)


@pytest.mark.parametrize("place", PLACES)
def test_a_pod_that_no_flow_is_meant_for_has_none(place: str) -> None:
    policies = [document for document in rendered(place) if document["kind"] == "NetworkPolicy"]
    stranger = End({"app": "stranger"})
    for role in pods(place):
        for port in (443, 5000, 6379, 8265, 8080):
            assert not allowed(policies, stranger, End(pods(place)[role].labels), port)
    assert not allowed(policies, stranger, BUCKET, 443)


@pytest.mark.parametrize("place", PLACES)
def test_the_database_is_for_mlflow_where_it_is_used(place: str) -> None:
    assert passes(place, "mlflow", DATABASE, 5432) == (place in ("overlays/postgres", "overlays/production"))
    assert not any(passes(place, role, DATABASE, 5432) for role in (*RAY, "retrain", "submitter"))


@pytest.mark.parametrize("place", PLACES)
def test_exporters_are_read_by_prometheus_alone_where_it_is_used(place: str) -> None:
    for role in RAY:
        assert passes(place, PROMETHEUS, role, 8080) == (place == "overlays/production")
        assert not passes(place, PROMETHEUS, role, 8265)
        assert not passes(place, NEIGHBOUR, role, 8080)


def test_without_the_policies_everything_passes() -> None:
    """The evaluator closes nothing by itself."""
    assert allowed([], End({}), End({}), 1)
    deny = {"metadata": {"namespace": "tadscale"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}
    assert not allowed([deny], End({}), End({}), 1)
    assert allowed([deny], End({}), outside("1.2.3.4"), 1)
