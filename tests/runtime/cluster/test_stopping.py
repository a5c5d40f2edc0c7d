"""SIGTERM and Ctrl-C: left at once where nothing trains, a request where something does."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from tadscale.runtime.cluster.stopping import Preempted, StopToken, kept_handlers


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard() -> Iterator[None]:
    """Also where the tests run in the background of a script, in which shells have it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_what_waits_is_left_at_once_even_where_every_failure_is_borne():
    started = time.monotonic()
    with pytest.raises(Preempted, match="the same command goes on"), StopToken().listening():
        threading.Timer(0.2, terminate).start()
        while True:
            try:
                time.sleep(60)
            except Exception:  # as a library that tries again
                continue
    assert time.monotonic() - started < 10


def test_a_request_is_noted_and_raised_at_the_end_of_what_it_was_made_to():
    answered = False
    with pytest.raises(Preempted), StopToken().listening() as stop, stop.as_request():
        terminate()
        answered = stop.asked
    assert answered


def test_ctrl_c_is_a_request_the_first_time_and_leaves_the_second():
    told: list[bool] = []
    with pytest.raises(Preempted), StopToken().listening() as stop, stop.as_request():
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            told.append(stop.by_hand)
    assert told == [True]


def test_ctrl_c_after_sigterm_leaves_and_sigterm_after_ctrl_c_does_not():
    reached = []
    with pytest.raises(Preempted), StopToken().listening() as stop, stop.as_request():
        terminate()
        reached.append("SIGTERM")
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("left")
    with pytest.raises(Preempted), StopToken().listening() as stop, stop.as_request():
        os.kill(os.getpid(), signal.SIGINT)
        terminate()
        reached.append("Ctrl-C, SIGTERM")
    assert reached == ["SIGTERM", "Ctrl-C, SIGTERM"]


def test_ctrl_c_that_a_shell_ignores_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopToken().listening() as stop:
            os.kill(os.getpid(), signal.SIGINT)
        assert not stop.asked and signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_request_that_comes_before_is_not_lost():
    stop, begun = StopToken(), False
    with stop.listening():
        with pytest.raises(Preempted):
            terminate()
        with pytest.raises(Preempted), stop.as_request():
            begun = True
    assert not begun


def test_a_block_that_does_not_answer_can_be_left_from_another_thread():
    with pytest.raises(Preempted), StopToken().listening() as stop, stop.as_request():
        threading.Timer(0.2, stop.insist).start()
        time.sleep(60)


def test_handlers_are_put_back():
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    with StopToken().listening() as stop:
        with kept_handlers():
            for number in numbers:
                signal.signal(number, signal.SIG_IGN)
        assert [signal.getsignal(number) for number in numbers] == [stop._on_signal] * 2
    assert [signal.getsignal(number) for number in numbers] == before


def test_another_thread_listens_to_nothing_and_breaks_nothing():
    seen: list[bool] = []

    def listen() -> None:
        with StopToken().listening() as stop, kept_handlers():
            seen.append(stop.asked)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [False]
