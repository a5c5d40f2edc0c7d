"""Settings of RAFT and their fingerprint, for which a file of weights is digested and nothing more."""

import hashlib

import pytest

from tadscale.flow.raft.config import RaftConfig


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "raft.pth"
    path.write_bytes(b"not even weights")
    return path


def test_the_fingerprint_holds_the_digest_of_the_file(weights):
    sha256 = hashlib.sha256(b"not even weights").hexdigest()
    config = RaftConfig(weights=str(weights), updates=6)
    assert config.fingerprint() == f"raft/1(variant=small, updates=6, weights={sha256[:16]})"


def test_the_fingerprint_follows_the_weights_and_not_their_place(weights, tmp_path):
    (tmp_path / "moved.pth").write_bytes(weights.read_bytes())
    (tmp_path / "other.pth").write_bytes(b"others")
    first = RaftConfig(weights=str(weights)).fingerprint()
    assert RaftConfig(weights=str(tmp_path / "moved.pth")).fingerprint() == first
    others = [
        RaftConfig(weights=str(tmp_path / "other.pth")),
        RaftConfig(weights=str(weights), updates=6),
        RaftConfig(weights=str(weights), variant="large"),
    ]
    assert len({first, *(config.fingerprint() for config in others)}) == 4


@pytest.mark.parametrize("variant", ["small", "large"])
def test_no_weights_have_no_fingerprint(variant, tmp_path):
    with pytest.raises(ValueError, match=rf"torchvision's raft_{variant}_C_T_\w+-\w+\.pth.*nothing is downloaded"):
        RaftConfig(variant=variant).fingerprint()
    with pytest.raises(ValueError, match=rf"absent\.pth: no such file.*raft_{variant}_C_T"):
        RaftConfig(variant=variant, weights=str(tmp_path / "absent.pth")).fingerprint()
