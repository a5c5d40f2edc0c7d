"""YAML within bounds: keys that stand twice, texts that would never end."""

import time

import pytest

from tadscale.errors import UserError
from tadscale.runtime.jobs.yaml_text import MAX_BYTES, parse_yaml

LAUGHS = "a0: &a0 [x, x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: own\nkind: x\nname: other\n", "the key `name` stands twice, in lines 1 and 3"),
        ("optim: {epochs: 50, epochs: 5}", "the key `epochs` stands twice, in lines 1 and 1"),
        ("a: [{b: 1}, {b: 1, c: 2,\n c: 3}]", "the key `c` stands twice, in lines 1 and 2"),
        ("{unclosed", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        ("!!python/object/apply:os.system [ls]", "not valid YAML"),
        ("a: 2026-13-45", "Quote it"),
        ("a: " + "9" * 5000, "Quote it"),
        (LAUGHS, "more than 20000 values"),
        ("a: &a [*a]", "an alias that holds itself"),
        ("a: " + "[" * 20_000, "nested too deeply"),
        ("# " + "x" * MAX_BYTES, "at most"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(text, message):
    begun = time.monotonic()
    with pytest.raises(UserError) as raised:
        parse_yaml(text, "job.yaml")
    assert message in str(raised.value)
    assert str(raised.value).startswith("job.yaml: ")
    assert time.monotonic() - begun < 5


def test_anchors_and_merged_keys_stay_what_they_are():
    text = "base: &b {lr: 1, epochs: 2}\nmore: {<<: *b, epochs: 3}\n"
    assert parse_yaml(text, "x") == {"base": {"lr": 1, "epochs": 2}, "more": {"lr": 1, "epochs": 3}}
    assert parse_yaml("", "x") is None
