"""How much slower everything is here than on a quiet machine: limits on how long others may take to answer heed it."""

import os

LONGEST = 4.0


def overload() -> float:
    """By how much all work on this machine takes longer than on a quiet one: 1 to `LONGEST`.

    Importing MLflow or joining a Ray cluster takes some seconds of CPU: at a load of 10 on two CPUs 25 s were too few for a
    server that answers in milliseconds.
    """
    return min(max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)), LONGEST)
