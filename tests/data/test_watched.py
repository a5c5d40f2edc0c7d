"""Who looks on is told of every item once it is done."""

from tadscale.data.watched import unwatched, watched


def test_each_is_told_of_once_it_is_done():
    told: list[tuple[int, int]] = []
    items = watched("ab", lambda done, total: told.append((done, total)))
    assert next(items) == "a" and told == []
    assert next(items) == "b" and told == [(1, 2)]
    assert list(items) == [] and told == [(1, 2), (2, 2)]


def test_nobody_has_to_look_on():
    assert list(watched([1, 2], unwatched)) == [1, 2]
    assert list(watched([], unwatched)) == []
