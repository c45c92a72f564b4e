"""The page that asks for the token, and the cookie that a browser keeps for it."""

from __future__ import annotations

import html
from pathlib import Path
from urllib.parse import parse_qs

from edgeemo.serve.guard import COOKIE
from edgeemo.serve.token import cookie_from_token

_PLACE = "<!-- problem -->"
_KEPT_S = 30 * 24 * 3600  # a kiosk logs in once, not every morning


def login_page(folder: Path, problem: str = "") -> str:
    """Returns the page, with a sentence on what was wrong where something was."""
    page = (folder / "login.html").read_text(encoding="utf-8")
    said = f'<p class="problem" role="alert">{html.escape(problem)}</p>' if problem else ""
    return page.replace(_PLACE, said)


def token_from_form(body: bytes) -> str:
    """Returns what was typed; empty where nothing was, or where this is no form of ours."""
    try:
        fields = parse_qs(body.decode("utf-8", "replace"), max_num_fields=8)
    except ValueError:
        return ""
    return fields.get("token", [""])[0].strip()


def cookie_header(token: str, *, secure: bool) -> str:
    """Returns the ``Set-Cookie`` header of a browser that has shown the token."""
    only = "; Secure" if secure else ""
    return f"{COOKIE}={cookie_from_token(token)}; Path=/; Max-Age={_KEPT_S}; HttpOnly; SameSite=Strict{only}"
