"""One question to the machine or to a service, and the line that it is answered with."""

import time
from collections.abc import Callable
from typing import Literal, NamedTuple

from tadscale.runtime.jobs.preflight.bounded import within
from tadscale.runtime.tracking.redact import redact_text

Status = Literal["ok", "warn", "fail"]
WITHIN_S = 25.0


class Answer(NamedTuple):
    """What was found."""

    status: Status
    says: str


class Line(NamedTuple):
    """What a probe is reported as."""

    probe: str
    status: Status
    says: str
    """One line, without secrets."""
    seconds: float


def ask(name: str, question: Callable[[], Answer], within_s: float = WITHIN_S) -> Line:
    """Ask in bounded time; whatever goes wrong is the answer."""
    started = time.monotonic()
    try:
        status, says = within(within_s, question, name)
    except Exception as error:  # a probe of foreign services: any failure is what was found
        status, says = "fail", str(error) or type(error).__name__
    one_line = " ".join(redact_text(says).split())
    return Line(name, status, one_line, round(time.monotonic() - started, 3))
