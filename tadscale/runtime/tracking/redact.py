"""Secrets out of whatever is logged: by the name of the setting, and by the shape of URLs."""

import re
from collections.abc import Mapping
from typing import Any

from tadscale.credentials import HIDDEN, hide_credentials

_NAMES = r"pass(?:word|wd|phrase)|secret|private_?key|api_?key|access_?key|authorization"
_NAMES_BESIDE_NUMBERS = r"token|credential"  # `max_tokens: 5` is a number of tokens, `password: 1234` is a password
SECRET_NAME = re.compile(f"{_NAMES}|{_NAMES_BESIDE_NUMBERS}", re.IGNORECASE)
_ALWAYS_SECRET = re.compile(_NAMES, re.IGNORECASE)
# Signatures of presigned URLs, and tokens handed over as query parameters.
_QUERY = re.compile(
    r"(?P<name>[?&][^=&\s]*(?:signature|credential|security-token|token|password|secret|key|sig)[^=&\s]*=)[^&\s\"']+",
    re.IGNORECASE,
)
# `AWS_SECRET_ACCESS_KEY=...`, `password: ...` in free text: the value up to its closing quote or to white space.
_ASSIGNMENT = re.compile(
    rf"(?P<name>[\w.-]*(?:{SECRET_NAME.pattern})[\w.-]*[\"']?\s*[:=]\s*)"
    r"(?:\"[^\"]*\"|'[^']*'|(?:(?:Bearer|Basic)\s+)?[^\s\"',}]+)",
    re.IGNORECASE,
)


def redact_text(text: str) -> str:
    """The text without credentials in URLs, and without the values of settings that are named like secrets."""
    text = _QUERY.sub(rf"\g<name>{HIDDEN}", hide_credentials(text))
    return _ASSIGNMENT.sub(rf"\g<name>{HIDDEN}", text)


def redact(value: Any) -> Any:
    """A copy of a tree of mappings and lists without secrets.

    All texts in what is named like a secret are hidden whole, numbers under a password's name, too; `max_tokens: 5` and
    switches stay. All other texts lose the credentials of their URLs.
    """
    if isinstance(value, Mapping):
        return {
            key: _hidden(item, str(key)) if SECRET_NAME.search(str(key)) else redact(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact(item) for item in value]
    return redact_text(value) if isinstance(value, str) else value


def _hidden(value: Any, name: str) -> Any:
    """A secret's value with its shape alone left."""
    if isinstance(value, Mapping):
        return {key: _hidden(item, name) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(item, name) for item in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return (
        HIDDEN if (isinstance(value, str | bytes) and value) or (is_number and _ALWAYS_SECRET.search(name)) else value
    )
