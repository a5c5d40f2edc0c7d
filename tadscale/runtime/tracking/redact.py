"""Secrets out of whatever is logged: by the name of the setting, and by the shape of URLs."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "[redacted]"

SECRET_NAME = re.compile(r"password|passwd|secret|token|credential|private_?key|api_?key|access_?key", re.IGNORECASE)
# user:password@ and user@ of a URL; ssh-style git@host has no scheme and stays.
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*://)[^/\s@\"']+@")
# Signatures of presigned URLs, and tokens handed over as query parameters.
_QUERY = re.compile(
    r"(?P<name>[?&][^=&\s]*(?:signature|credential|security-token|token|password|secret|key|sig)[^=&\s]*=)[^&\s\"']+",
    re.IGNORECASE,
)
# `AWS_SECRET_ACCESS_KEY=...`, `password: ...` in free text, the value up to white space.
_ASSIGNMENT = re.compile(
    rf"(?P<name>[\w.-]*(?:{SECRET_NAME.pattern})[\w.-]*[\"']?\s*[:=]\s*)[\"']?[^\s\"',}}]+", re.IGNORECASE
)


def redact_text(text: str) -> str:
    """The text without credentials in URLs, and without the values of settings that are named like secrets."""
    text = _USERINFO.sub(rf"\g<scheme>{HIDDEN}@", text)
    text = _QUERY.sub(rf"\g<name>{HIDDEN}", text)
    return _ASSIGNMENT.sub(rf"\g<name>{HIDDEN}", text)


def redact(value: Any) -> Any:
    """A copy of a tree of mappings and lists without secrets.

    A text under a key that is named like a secret is hidden whole; numbers and switches stay (`max_tokens: 5`). All
    other texts lose the credentials of their URLs.
    """
    if isinstance(value, Mapping):
        return {key: HIDDEN if _is_secret(key, item) else redact(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return redact_text(value) if isinstance(value, str) else value


def _is_secret(key: Any, item: Any) -> bool:
    if not SECRET_NAME.search(str(key)):
        return False
    return isinstance(item, str | bytes) and bool(item)
