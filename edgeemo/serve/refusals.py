"""Answers that refuse, in a sentence, over HTTP and at the door of a WebSocket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from edgeemo.serve.messages import json_text

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

_CLOSE_POLICY = 1008


async def refuse(scope: Scope, send: Send, status: int, sentence: str, *, headers: Headers = ()) -> None:
    """Answers with ``{"error": sentence}``; a WebSocket is refused before it is one."""
    body = json_text({"error": sentence}).encode()
    await answer(scope, send, status, body, headers=[(b"content-type", b"application/json"), *headers])


async def answer(scope: Scope, send: Send, status: int, body: bytes, *, headers: Headers) -> None:
    """Answers with a body, and lets nobody keep it."""
    kind = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": _CLOSE_POLICY})
            return
        kind = "websocket.http.response"
    length = (b"content-length", str(len(body)).encode())
    kept = (b"cache-control", b"no-store")
    await send({"type": f"{kind}.start", "status": status, "headers": [length, kept, *headers]})
    await send({"type": f"{kind}.body", "body": b"" if scope.get("method") == "HEAD" else body})
