"""Errors for users: the nearest known word."""

import pickle

import pytest

from tadscale.errors import UserError, nearest


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("tests", ("train", "test"), "did you mean `test`?"),
        ("High Jump", ("HighJump", "LongJump"), "did you mean `HighJump`?"),
        ("jump ", ("jump", "Run"), "did you mean `jump`?"),
        ("-", ("a", "b"), "valid here: a, b"),
        ("zzz", [f"class{n}" for n in range(20)], "(20 in all)"),
        ("zzz", (), "there is none"),
    ],
)
def test_the_nearest_known_word_is_named_whatever_its_case_and_blanks(word, known, hint):
    assert hint in nearest(word, known)


def test_a_users_mistake_is_a_value_error_that_travels_between_processes():
    error = pickle.loads(pickle.dumps(UserError("what, where, what to do")))
    assert isinstance(error, ValueError)
    assert str(error) == "what, where, what to do"
