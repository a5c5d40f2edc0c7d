"""One rule for the names of videos: what a key is, how files spell it, how the members of a shard carry it."""

import os

import pytest
from webdataset.tariterators import base_plus_ext

from tadscale.data.keys import as_text, fault_of_key, key_of_member, member_name, same_key, spellings, video_key

KEYS = [
    "a_0.0_40.0",
    "-x",
    "--",
    "walk/v1",
    "my clip",
    "e\u0301",
    "\u00e9",
    "100%",
    "a%2Eb",
    "a\\b",
    ".hidden",
    "v_a",
    "日本",
    "a.mp4.b",
]


@pytest.mark.parametrize("key", KEYS)
def test_members_carry_every_key_through_webdatasets_own_rule_and_give_it_back(key: str) -> None:
    assert fault_of_key(key) == ""
    base, suffix = base_plus_ext(f"{member_name(key)}.mp4")
    assert suffix == "mp4"
    assert key_of_member(base) == key


def test_two_keys_never_become_one_member() -> None:
    assert len({member_name(key) for key in KEYS}) == len(KEYS)


@pytest.mark.parametrize("name", ["a%20b", "50%", "%2f", "a%2eb", "%"])
def test_names_that_other_tools_escaped_stay_as_they_are(name: str) -> None:
    assert key_of_member(name) == name


@pytest.mark.parametrize(
    "key", ["", "  ", "..", "../x", "a/../b", "/x", "x/", "a//b", "a\nb", "a\x1b[2J", "\ud800", "x" * 201]
)
def test_what_cannot_be_a_key_is_refused(key: str) -> None:
    assert "is not usable" in fault_of_key(key)


def test_a_suffix_of_a_video_file_is_no_part_of_a_key() -> None:
    assert [video_key(name) for name in ("v1.mp4", "v1.MOV", "a.b", "v1.0", ".mp4", "d/.mp4")] == [
        "v1", "v1", "a.b", "v1.0", ".mp4", "d/.mp4"
    ]  # fmt: skip
    assert same_key("e\u0301.mp4") == same_key("\u00e9")


def test_every_name_can_be_written_somehow() -> None:
    assert as_text(os.fsdecode(b"caf\xe9")) == "caf\\udce9" and as_text("caf\u00e9") == "caf\u00e9"


def test_a_file_belongs_to_its_path_before_its_name() -> None:
    assert list(spellings("walk/v_1.mp4")) == ["walk/v_1", "walk/1", "v_1", "1"]
    assert list(spellings("1.mp4")) == ["1", "v_1"]
