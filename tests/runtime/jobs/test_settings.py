"""Settings given on the command line: what is refused and how, and texts that look like numbers."""

import pytest

from tadscale.data.sprites import SpritesConfig
from tadscale.data.transcode import Transcode
from tadscale.errors import UserError
from tadscale.runtime.jobs.settings import apply_override, parse_options
from tadscale.runtime.stage.job import JobConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["fsp=10"], "fsp: unknown key; did you mean `fps`?"),
        (["fps=many"], "fps: Input should be a valid number"),
        (["fps=-1"], "fps: Input should be greater than 0"),
        (["fps"], "--transcode fps: expected KEY=VALUE"),
        (["fps=[1"], "--transcode fps=[1: not valid YAML"),
        (["fps=1", "crf.x=1", "crf.x.y=2"], "x is a value, not a group"),
    ],
)
def test_options_are_explained_in_the_words_of_job_files(options, message):
    with pytest.raises(UserError) as raised:
        parse_options(Transcode, options, "--transcode")
    assert message in str(raised.value)
    assert "http" not in str(raised.value)


def test_options_become_settings():
    assert parse_options(SpritesConfig, ["train=7"], "--set").train == 7


@pytest.mark.parametrize(
    ("override", "value"),
    [("name=20261126", "20261126"), ("name=007", "007"), ("storage=/data/set #2", "/data/set #2"), ("seed=7", 7)],
)
def test_a_setting_that_is_text_takes_its_value_as_it_stands(override, value):
    tree: dict[str, object] = {}
    apply_override(tree, override, JobConfig)
    assert list(tree.values()) == [value]


def test_a_text_that_may_be_absent_is_taken_away_by_null():
    tree: dict[str, object] = {}
    apply_override(tree, "teacher.url=null", JobConfig)
    assert tree == {"teacher": {"url": None}}
