"""Who may ask, from where, how often and how much: looked at before any route."""

from __future__ import annotations

import asyncio
import hashlib
import math
import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping

from edgeemo.serve.address import ip_from_text, name_of_host_header, names_of_ours
from edgeemo.serve.options import ServeOptions
from edgeemo.serve.rate import RateLimit
from edgeemo.serve.refusals import Message, Receive, Scope, Send, refuse
from edgeemo.serve.token import cookie_from_token, is_same

COOKIE = "edgeemo"
MOST_BODY = 4096
"""Bytes; the longest thing that anybody has to say here is who acknowledged a notice."""
OPEN_PATHS = ("/healthz", "/login")
OPEN_FOLDER = "/page/"
_BODY_S = 10.0
_FAILURES_PER_S, _FAILURES = 1 / 6, 10
_KNOWN_WRONG = 256
_SAFE = ("GET", "HEAD", "OPTIONS")
_PLAIN_HOST = re.compile(r"[\w.:\[\]-]+", re.ASCII)
_OWN_SITES = ("", "same-origin", "none")

_BEARER = [(b"www-authenticate", b"Bearer")]

Refusal = tuple[int, str, list[tuple[bytes, bytes]]]
"""Status, sentence, headers."""
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Guard:
    """ASGI middleware; what it lets through has a name of ours, a token, a small body and a rate.

    Args:
        app: what is behind it.
        options: how the session is served.

    Attributes:
        refused: requests that were, so far.
    """

    def __init__(self, app: App, options: ServeOptions) -> None:
        self._app = app
        self._token = options.token
        self._names = names_of_ours(options.host, options.names)
        burst = max(300.0, 2.0 * options.max_clients)  # pages behind one address may all come back at once
        self._rate = RateLimit(per_s=options.requests_per_s, burst=burst)
        self._failures = RateLimit(per_s=_FAILURES_PER_S, burst=_FAILURES)
        self._known_wrong: deque[bytes] = deque(maxlen=_KNOWN_WRONG)
        self.refused = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses in a sentence, or hands on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = headers_of(scope)
        host = headers.get("host", "")
        with_headers = _adding_headers(scope, send, host if self._is_ours(host) else "")
        refusal = self._refusal(scope, headers, host)
        if refusal is not None:
            self.refused += 1
            status, sentence, more = refusal
            if status == 303:
                await with_headers({"type": "http.response.start", "status": 303, "headers": more})
                await with_headers({"type": "http.response.body", "body": b""})
                return
            await refuse(scope, with_headers, status, sentence, headers=more)
            return
        if scope["type"] == "http" and _has_body(headers):
            try:
                body = await asyncio.wait_for(_whole_body(receive, headers), _BODY_S)
            except (_TooLargeError, asyncio.TimeoutError) as reason:
                self.refused += 1
                status, sentence = 413, f"a request holds at most {MOST_BODY} bytes"
                if not isinstance(reason, _TooLargeError):
                    status, sentence = 408, f"the request did not arrive within {_BODY_S:g} s"
                await refuse(scope, with_headers, status, sentence, headers=[(b"connection", b"close")])
                return
            receive = _replayed(body, receive)
        await self._app(scope, receive, with_headers)

    def failed(self, client: str) -> None:
        """Counts a wrong token that a client has shown."""
        self._failures.take(client)

    def must_wait_s(self, client: str) -> float:
        """Returns the seconds for which a client that guesses tokens is not listened to."""
        return self._failures.wait_s(client)

    def _is_ours(self, host: str) -> bool:
        name = name_of_host_header(host)
        return name in self._names or ip_from_text(name) is not None

    def _refusal(self, scope: Scope, headers: Mapping[str, str], host: str) -> Refusal | None:
        client, path = client_of(scope), scope["path"]
        if path != "/healthz":
            wait_s = self._rate.take(client)
            if wait_s:
                return 429, "too many requests; ask less often", _retry_after(wait_s)
        if not self._is_ours(host):
            return (
                400,
                f"{host!r} is no name of this server; use its IP address, or give the name with --allow-host",
                [],
            )
        problem = _foreign(scope, headers, host)
        if problem:
            return 403, problem, []
        if self._token is None or path in OPEN_PATHS or path.startswith(OPEN_FOLDER):
            return None
        return self._unauthorised(scope, headers, client, self._token)

    def _unauthorised(
        self, scope: Scope, headers: Mapping[str, str], client: str, token: str
    ) -> Refusal | None:
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        cookie = "" if shown else _cookie_of(headers.get("cookie", ""))
        asks_for_page = not shown and scope["type"] == "http" and scope["path"] == "/"
        to_login = (303, "", [(b"location", b"/login")])
        if not (shown or cookie):
            why = "show the token: Authorization: Bearer TOKEN"
            return to_login if asks_for_page else (401, why, _BEARER)
        wrong = to_login if asks_for_page else (401, "this is not the token of this server", _BEARER)
        digest = hashlib.sha256((shown or cookie).encode("utf-8", "surrogateescape")).digest()
        if digest in self._known_wrong:
            # No guess: a page that was open before a restart asks again and again, and must not keep the
            # people behind the same address from signing in.
            return wrong
        if wait_s := self._failures.wait_s(client):
            return 429, "too many wrong tokens; wait before you try again", _retry_after(wait_s)
        if shown and scheme.lower() == "bearer" and is_same(shown.strip(), token):
            return None
        if cookie and is_same(cookie, cookie_from_token(token)):
            return None
        self.failed(client)
        self._known_wrong.append(digest)
        return wrong


def headers_of(scope: Scope) -> dict[str, str]:
    """Returns the headers, names in lower case; of several with one name the last."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def client_of(scope: Scope) -> str:
    """Returns the IP address of the client."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def _foreign(scope: Scope, headers: Mapping[str, str], host: str) -> str:
    """Returns why this comes from a page that is not ours; empty where it does not."""
    origin = headers.get("origin")
    changes = scope["type"] == "websocket" or scope["method"] not in _SAFE
    if origin is not None and changes and origin.partition("://")[2].lower() != host.lower():
        return f"pages of {origin} may not use this server"
    site, mode = headers.get("sec-fetch-site", ""), headers.get("sec-fetch-mode", "")
    if site not in _OWN_SITES and (changes or mode != "navigate"):
        return "pages of other sites may not use this server"
    return ""


def _cookie_of(header: str) -> str:
    """Returns our cookie; those of other servers on this machine come along and may hold anything."""
    for part in header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


def _retry_after(wait_s: float) -> list[tuple[bytes, bytes]]:
    return [(b"retry-after", str(math.ceil(wait_s)).encode())]


class _TooLargeError(Exception):
    """A body beyond `MOST_BODY`."""


def _has_body(headers: Mapping[str, str]) -> bool:
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


async def _whole_body(receive: Receive, headers: Mapping[str, str]) -> bytes:
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MOST_BODY:
        raise _TooLargeError
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > MOST_BODY:
            raise _TooLargeError
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Returns what gives the body that was read already, then whatever comes."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _adding_headers(scope: Scope, send: Send, host: str) -> Send:
    """Returns a `send` that adds what browsers are to forbid themselves."""
    plain = _PLAIN_HOST.fullmatch(host)
    sockets = f" ws://{host} wss://{host}" if plain else ""  # older Safaris do not count them to 'self'
    policy = (
        f"default-src 'self'; connect-src 'self'{sockets}; base-uri 'none'; object-src 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    )
    added = [
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"x-frame-options", b"DENY"),
        (b"referrer-policy", b"same-origin"),  # with no referrer at all browsers send forms as from "null"
        (b"cross-origin-resource-policy", b"same-origin"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
    ]
    keep = b"no-cache" if scope["path"].startswith(OPEN_FOLDER) else b"no-store"

    async def send_with(message: Message) -> None:
        if message["type"].endswith("response.start"):
            own = list(message.get("headers", []))
            has = {name.lower() for name, _ in own}
            more = [*added, (b"cache-control", keep)]
            message["headers"] = own + [(name, value) for name, value in more if name not in has]
        await send(message)

    return send_with
