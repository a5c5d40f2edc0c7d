"""Credentials in URLs: found, hidden and left out, in whatever text they stand."""

import re

HIDDEN = "[redacted]"

# user:password@ and user@ behind a scheme; ssh-style git@host has none and stays. Passwords that should have been escaped
# are met in the wild: one with a slash is told from a port (HOST:5000/a@b) by the port's digits.
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*://)(?:[^:/\s@\"']*:(?!\d{1,5}/)[^@\s\"']*@)?(?:[^/\s\"']*@)?")


def hide_credentials(text: str) -> str:
    """The text, `user:password@` of every URL in it replaced."""
    return _USERINFO.sub(lambda match: match["scheme"] + (f"{HIDDEN}@" if match[0].endswith("@") else ""), text)


def drop_credentials(text: str) -> str:
    """The text, `user:password@` of every URL in it left out."""
    return _USERINFO.sub(r"\g<scheme>", text)


def has_credentials(url: str) -> bool:
    """Whether a URL carries a user or a password."""
    return hide_credentials(url) != url
