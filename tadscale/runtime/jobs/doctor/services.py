"""What a job leans on: the cluster, the tracking store, the storage, and how far their clocks are from ours."""

import os
import ssl
import time
from email.utils import parsedate_to_datetime
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from tadscale.credentials import drop_credentials
from tadscale.runtime.cluster.address import LOCAL, ask_cluster
from tadscale.runtime.jobs.doctor.probe import Answer, Status
from tadscale.runtime.jobs.preflight.storage import write_and_read
from tadscale.runtime.jobs.preflight.tracking import note_and_read
from tadscale.runtime.tracking.redact import redact_text

SPEED_BYTES = 8 << 20
HTTP_S = 10.0
SKEW_WARN_S = 30.0
SKEW_FAIL_S = 900.0  # S3 refuses signatures that are a quarter of an hour off


def cluster(address: str) -> Answer:
    """What the cluster offers, and how far its nodes' clocks are off."""
    if address == LOCAL:
        return Answer("ok", f"none is named: a job starts one here, {os.cpu_count()} CPUs")
    offer = ask_cluster(address, clocks=True)
    amounts = ", ".join(f"{offer.resources.get(name, 0):g} {name}s" for name in ("CPU", "GPU"))
    says = f"{address}: {offer.nodes} node(s), {amounts}, Ray {offer.version}, clocks within {offer.skew_s:.1f} s"
    return Answer(_of_skew(offer.skew_s), says)


def tracking(uri: str, experiment: str | None) -> Answer:
    """A note is written to the tracking store, and read back; in the experiment, if one is named and there."""
    started = time.monotonic()
    note_and_read(uri, experiment)
    return Answer("ok", f"{redact_text(uri)}: answered in {time.monotonic() - started:.2f} s")


def storage(url: str) -> Answer:
    """A file is written, read back and removed, and how fast."""
    started = time.monotonic()
    write_and_read(url, os.urandom(SPEED_BYTES))
    seconds = time.monotonic() - started
    return Answer("ok", f"{url}: {SPEED_BYTES >> 20} MiB written and read back in {seconds:.2f} s")


def clock(url: str) -> Answer:
    """How far the clock of an HTTP server is from this machine's, to a second: its answer says its time.

    A connection that TLS refuses is a warning: urllib knows nothing of the private CA that jobs may trust
    (`REQUESTS_CA_BUNDLE`, `AWS_CA_BUNDLE`), nor of `MLFLOW_TRACKING_INSECURE_TLS`.

    Raises:
        URLError: nobody answers.
    """
    where = redact_text(url)
    asked = time.time()
    try:
        date = _date(url)
    except URLError as error:
        if not isinstance(error.reason, ssl.SSLError):
            raise
        return Answer("warn", f"{where} was not asked for its time: {error.reason}")
    middle = (asked + time.time()) / 2
    if not date:
        return Answer("warn", f"{where} does not tell its time")
    skew_s = abs(parsedate_to_datetime(date).timestamp() + 0.5 - middle)  # it leaves out fractions of a second
    return Answer(_of_skew(skew_s), f"{where}: within {skew_s:.1f} s of this machine's")


def _date(url: str) -> str | None:
    """The `Date` of an answer, a refusal included: credentials, which urllib takes for a host and port, are not sent."""
    try:
        with urlopen(drop_credentials(url), timeout=HTTP_S) as answer:
            return answer.headers["Date"]
    except HTTPError as refusal:
        return refusal.headers["Date"]


def _of_skew(skew_s: float) -> Status:
    return "fail" if skew_s > SKEW_FAIL_S else "warn" if skew_s > SKEW_WARN_S else "ok"
