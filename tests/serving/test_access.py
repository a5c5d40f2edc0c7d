"""What may be read where."""

import math

import pytest

from tadscale.serving.access import SCHEMES, Access, is_public

SERVED = {"__pyfunc_model_path__": "/model"}


def test_a_users_own_process_reads_what_its_user_may() -> None:
    own = Access.from_environment({})
    assert own.schemes == SCHEMES and own.hosts is None and not own.public_only
    narrow = Access.from_environment({"TADSCALE_VIDEO_SCHEMES": "https, S3,nonsense"})
    assert narrow.schemes == ("https", "s3")


def test_behind_a_port_the_defaults_are_safe_and_the_operator_has_the_word() -> None:
    served = Access.from_environment(SERVED)
    assert served.schemes == ("https", "data") and served.public_only
    assert served.deadline_s <= 60 and served.max_bytes < Access().max_bytes
    assert served.answer_s == 60 and Access.from_environment({}).answer_s == math.inf
    assert Access.from_environment(SERVED | {"MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT": "300"}).answer_s == 300
    wider = Access.from_environment(SERVED | {"TADSCALE_VIDEO_SCHEMES": "http,file"})
    assert wider.schemes == ("file", "http") and wider.public_only
    named = Access.from_environment(SERVED | {"TADSCALE_VIDEO_HOSTS": "Media.example.org, 10.0.0.7"})
    assert named.hosts == ("media.example.org", "10.0.0.7") and not named.public_only
    assert Access.from_environment(SERVED | {"TADSCALE_VIDEO_HOSTS": ""}).hosts == ()


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1", "::1",
     "fe80::1%eth0", "fc00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"],
)  # fmt: skip
def test_addresses_of_ones_own_network_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert is_public(address)
