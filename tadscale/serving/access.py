"""What a detector may read on somebody's behalf, and how much of it.

A command line or a notebook reads what its user may read. Behind a port the callers are strangers: a path or a URL of theirs
would be read with the server's rights, from inside its network.
"""

import ipaddress
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass

SCHEMES = ("file", "http", "https", "s3", "data")
"""`file` stands for plain paths, too."""
SERVED_SCHEMES = ("https", "data")
SCHEMES_VARIABLE = "TADSCALE_VIDEO_SCHEMES"
"""Environment variable that names the schemes instead, such as `https,s3`."""
HOSTS_VARIABLE = "TADSCALE_VIDEO_HOSTS"
"""Environment variable with the only hosts that videos are fetched from, such as `media.example.org,10.0.0.7`. These may
have any address; without it, a served model fetches from public addresses alone."""
SERVER_MARK = "__pyfunc_model_path__"
"""Environment variable by which MLflow's scoring server passes the model on to its processes."""
MAX_VIDEO_BYTES = 16 << 30  # of the disk; what is fetched lies there until its detections are known
MAX_SERVED_BYTES = 1 << 30  # twenty minutes of HD at 6 Mbit/s
DEADLINE_S = 600.0
SERVED_DEADLINE_S = 60.0
ANSWER_VARIABLE = "MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT"
"""MLflow's environment variable: the seconds after which its scoring server gives up on a request, and nobody reads what
comes of it; 60 by default."""
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # the last 32 bits are an IPv4 address, whatever that is


@dataclass(frozen=True, kw_only=True)
class Access:
    """What may be read. The defaults are those of a user's own process."""

    schemes: tuple[str, ...] = SCHEMES
    hosts: tuple[str, ...] | None = None
    """The only hosts, in lower case; None for any."""
    public_only: bool = False
    """Whether addresses must be public: no loopback, no private network, no metadata service of a cloud."""
    max_bytes: int = MAX_VIDEO_BYTES
    """Of one video."""
    deadline_s: float = DEADLINE_S
    """For one video in all, however it trickles in."""
    answer_s: float = math.inf
    """For all videos of a call, from fetching the first to the last detection: a few kilobytes may say that they last for
    days."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Access":
        """Strict behind a port (`SERVER_MARK`), wide elsewhere; both as the operator says otherwise."""
        served = SERVER_MARK in environment
        named, hosts = _words(environment.get(SCHEMES_VARIABLE)), _words(environment.get(HOSTS_VARIABLE))
        usual = SERVED_SCHEMES if served else SCHEMES
        return cls(
            schemes=usual if named is None else tuple(scheme for scheme in SCHEMES if scheme in named),
            hosts=hosts,
            public_only=served and hosts is None,
            max_bytes=MAX_SERVED_BYTES if served else MAX_VIDEO_BYTES,
            deadline_s=SERVED_DEADLINE_S if served else DEADLINE_S,
            answer_s=float(environment.get(ANSWER_VARIABLE, SERVED_DEADLINE_S)) if served else math.inf,
        )


def is_public(address: str) -> bool:
    """Whether an IP address is one that anybody on the Internet can reach, also where it wraps another."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in NAT64 else None)
        if inner is not None:
            ip = inner
    return ip.is_global and not ip.is_multicast


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(part.strip().lower() for part in text.split(",") if part.strip())
