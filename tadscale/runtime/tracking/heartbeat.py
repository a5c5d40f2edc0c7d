"""A run's sign of life, for those who see nothing but its store: a job that detects for an hour logs no metric meanwhile,
and a grid none at all."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tadscale.runtime.tracking.client import make_client
from tadscale.runtime.tracking.patience import PatientClient, is_away
from tadscale.runtime.tracking.redact import redact_text
from tadscale.runtime.tracking.run import Run

HEARD_TAG = "tadscale.heard_unix_s"
BEAT_S = 30.0
LAST_S = 5.0  # a beat that is under way when the block ends is waited for no longer: the thread ends by itself

log = logging.getLogger(__name__)


@contextmanager
def beating(run: Run) -> Iterator[None]:
    """Note in the run that it lives, every `BEAT_S` while the block runs. A store that is away is tried again at the next;
    so is one that refuses, which is said once.

    Raises:
        TrackingAway: the store was away at the first beat, for longer than the run's patience.
        TrackingRefused: it refused the first beat.
    """
    run.set_tags({HEARD_TAG: f"{time.time():.0f}"})
    over = threading.Event()
    beats = threading.Thread(target=_beat, args=(run, over), name="heartbeat", daemon=True)
    beats.start()
    try:
        yield
    finally:
        over.set()
        beats.join(LAST_S)


def _beat(run: Run, over: threading.Event) -> None:
    client, said = None, False
    while not over.wait(BEAT_S):
        try:
            client = client or PatientClient(
                make_client(run.tracking_uri), redact_text(run.tracking_uri), patience_s=0.0
            )
            client.set_tag(run.run_id, HEARD_TAG, f"{time.time():.0f}")
        except Exception as error:  # a proxy's refusal passes, too
            if not said and not is_away(error):
                log.warning("run %s could not give a sign of life: %s", run.run_id, redact_text(str(error)))
                said = True
