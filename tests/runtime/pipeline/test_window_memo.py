"""Results kept by window."""

import numpy as np

from tadscale.runtime.pipeline.window_memo import WindowMemo


def made(value: int, calls: list[int]):
    def make():
        calls.append(value)
        return {"a": np.full(10, value, np.uint8), "b": np.full(5, value, np.uint16)}  # 20 bytes

    return make


def test_a_window_is_made_once():
    memo, calls = WindowMemo(1000), []
    first = memo.recall(3, made(3, calls))
    again = memo.recall(3, made(4, calls))
    assert calls == [3]
    assert again is first
    assert memo.recall(4, made(4, calls))["b"].tolist() == [4] * 5


def test_the_first_stay_when_room_is_short():
    memo, calls = WindowMemo(59), []  # two windows and almost a third
    for _ in range(3):
        for window in range(4):
            assert memo.recall(window, made(window, calls))["a"][0] == window
    assert calls == [0, 1, 2, 3, 2, 3, 2, 3]
