"""Ray's start on a busy machine: Ray gives a node 30 seconds, a constant, and an idle machine takes five of them."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tadscale.errors import UserError

PATIENCE_S = 120.0
"""Two cores with a load of 8 were too slow for Ray's own 30 s."""
GIVEN_UP = "timed out during startup"  # out of the words in which Ray 2.60 says so


@contextmanager
def patient_start(patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Within, Ray waits so long for a node that it starts from this process.

    Ray 2.60 asks `services.get_node` until 30 s have passed, and has no setting for it; here that question is repeated
    before it is answered with no. A second `ray.init` would be the way without a private name, but the processes of the
    first go on and make the machine busier. For its dashboard, which starts even where none is wanted, it has 60 s and a
    variable that counts only before Ray is imported.

    Raises:
        UserError: the node was not there in that time.
    """
    from ray._private import ray_constants, services

    ask, dashboard_s = services.get_node, ray_constants.RAY_DASHBOARD_STARTUP_TIMEOUT_S
    deadline = time.monotonic() + patience_s

    def ask_until_there(gcs_address: str, node_id: str) -> Any:
        while True:
            try:
                return ask(gcs_address, node_id)
            except RuntimeError:  # not listed yet
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.2)

    services.get_node = ask_until_there
    ray_constants.RAY_DASHBOARD_STARTUP_TIMEOUT_S = max(dashboard_s, math.ceil(patience_s))
    try:
        yield
    except Exception as error:
        if GIVEN_UP not in str(error):
            raise
        raise UserError(
            f"Ray did not start on this machine within {patience_s:.0f} s: it is too busy, or out of memory (the logs of "
            "Ray's processes are in /tmp/ray/session_latest/logs). Try again when less runs beside it"
        ) from error
    finally:
        services.get_node, ray_constants.RAY_DASHBOARD_STARTUP_TIMEOUT_S = ask, dashboard_s
