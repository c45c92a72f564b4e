"""The token that clients show: where it comes from, and whether one that is shown is it."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from edgeemo.errors import InputError

LEAST_TOKEN = 16
ENVIRONMENT = "EDGEEMO_TOKEN"
_MOST_TOKEN = 1024
_COOKIE_PURPOSE = b"edgeemo serve: cookie of the page"


def read_token(path: Path | None, environment: Mapping[str, str] = os.environ) -> str | None:
    """Returns the token of a file, else that of the environment, else None.

    Raises:
        InputError: the file cannot be read, others on this machine can read it, or the token is too short.
    """
    if path is not None:
        return _checked(_text_of(path), f"the token in {path}")
    if ENVIRONMENT in environment:
        return _checked(environment[ENVIRONMENT], f"the token in {ENVIRONMENT}")
    return None


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_MOST_TOKEN + 2)
    except OSError as error:
        raise InputError(f"the token file {path} cannot be read: {error.strerror or error}") from None
    if stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
        raise InputError(f"others on this machine can read the token file {path}; run: chmod 600 {path}")
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise InputError(
            f"the token in {path} must be letters, digits and signs of ASCII, as it travels in a header"
        ) from None


def _checked(text: str, what: str) -> str:
    token = text.strip()
    if len(token) < LEAST_TOKEN:
        raise InputError(
            f"{what} has {len(token)} characters, at least {LEAST_TOKEN} are needed; "
            "make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    if len(token) > _MOST_TOKEN:
        raise InputError(f"{what} has more than {_MOST_TOKEN} characters")
    if not all("!" <= sign <= "~" for sign in token):
        raise InputError(f"{what} must be letters, digits and signs of ASCII without blanks")
    return token


def cookie_from_token(token: str) -> str:
    """Returns what a browser that has logged in keeps.

    It says nothing of the token, and a restart with the same token knows it again.
    """
    return hmac.new(token.encode(), _COOKIE_PURPOSE, hashlib.sha256).hexdigest()


def is_same(shown: str, expected: str) -> bool:
    """Compares in a time that does not tell how much of it is right."""
    return hmac.compare_digest(shown.encode("utf-8", "surrogateescape"), expected.encode())
