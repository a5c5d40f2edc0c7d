"""On a busy machine Ray's first node takes longer than Ray waits for it."""

import pytest
from ray._private import services

from tadscale.errors import UserError
from tadscale.runtime.cluster.patient_start import patient_start


@pytest.fixture
def late(monkeypatch):
    """Ray's question, answered with no as often as told."""
    asked = []

    def get_node(gcs_address, node_id):
        asked.append(node_id)
        if len(asked) <= late.misses:
            raise RuntimeError("no node information is available")
        return {"node_id": node_id}

    def late(misses):
        late.misses = misses
        return asked

    monkeypatch.setattr(services, "get_node", get_node)
    return late


def test_a_node_that_comes_late_is_waited_for(late):
    asked = late(3)
    own = services.get_node
    with patient_start(patience_s=30):
        assert services.get_node("127.0.0.1:1", "a node") == {"node_id": "a node"}
    assert len(asked) == 4
    assert services.get_node is own


def test_one_that_never_comes_is_told_in_a_line(late):
    late(10**6)
    own = services.get_node
    with (
        pytest.raises(UserError, match="did not start on this machine") as refusal,
        patient_start(patience_s=0.1),
    ):
        with pytest.raises(RuntimeError):
            services.get_node("127.0.0.1:1", "a node")
        raise Exception("The current node timed out during startup.")  # as Ray's Node says it
    assert "\n" not in str(refusal.value)
    assert services.get_node is own


def test_other_faults_of_a_start_stay_what_they_are():
    with pytest.raises(ConnectionError, match="somewhere else"), patient_start():
        raise ConnectionError("somewhere else")
