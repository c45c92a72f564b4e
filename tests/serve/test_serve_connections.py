"""What clients can do to the connections of `edgeemo serve`: none may keep its place for nothing."""

from __future__ import annotations

import logging
import socket
import struct
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs fastapi")
pytest.importorskip("uvicorn", reason="needs uvicorn")
pytest.importorskip("websockets", reason="needs websockets")

from live_server import TOKEN, Served, served, wait_for

from edgeemo.sensors import PatternMicrophone

HOST = b"Host: 127.0.0.1\r\n"
BEARER = f"Authorization: Bearer {TOKEN}\r\n".encode()
KEY = b64encode(b"sixteen bytes of")
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
LIVE = b"GET /v1/live HTTP/1.1\r\n" + HOST + UPGRADE + b"Sec-WebSocket-Key: " + KEY + b"\r\n"
ASK = b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n"
TEXT, CLOSE = 1, 8


@pytest.fixture(scope="module")
def impatient() -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_REQUEST_S", "_UNREAD_S", "_AFTER_END_S"):
            patch.setattr(f"edgeemo.serve.connections.{name}", 0.4)
        patch.setattr("edgeemo.serve.server._KEPT_ALIVE_S", 1)
        fast = {"hop_s": 0.1}
        with served([PatternMicrophone()], settings=fast, token=TOKEN, requests_per_s=1000.0) as server:
            yield server


def held(server: Served) -> set[Any]:
    assert server.server._server is not None
    return server.server._server.server_state.connections


def connected(server: Served) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(20.0)
    client.connect(("127.0.0.1", server.port))
    wait_for(lambda: len(held(server)) == 1, "a connection")
    return client


def frame(kind: int, data: bytes = b"", *, last: bool = True) -> bytes:
    return struct.pack("!BB4x", last << 7 | kind, 0x80 | len(data)) + data


def whole(client: socket.socket) -> bytes:
    """Returns all that comes until the server ends the connection."""
    pieces = []
    while piece := client.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"", b"GET /heal"),
        (ASK, b"GET /heal"),
        (b"PUT /v1/notice HTTP/1.1\r\n" + HOST + b"Content-Length: 90\r\n\r\n", b"{"),
    ],
    ids=["half a request", "half of a second request", "a body that was refused"],
)
def test_a_request_that_comes_to_no_end_is_ended(impatient: Served, first: bytes, then: bytes) -> None:
    with connected(impatient) as client:
        if first:
            client.sendall(first)
            assert client.recv(65536).startswith(b"HTTP/1.1 ")
        client.sendall(then)
        wait_for(lambda: not held(impatient), "the end of a connection that asks for nothing")


def test_answers_that_nobody_reads_are_not_kept(impatient: Served) -> None:
    with connected(impatient) as client:
        client.sendall((b"GET /page/index.html HTTP/1.1\r\n" + HOST + b"\r\n") * 100)
        wait_for(lambda: not held(impatient), "the end of a connection that reads nothing")


def test_a_socket_that_says_good_bye_and_reads_nothing_is_ended(impatient: Served) -> None:
    with connected(impatient) as client:
        client.sendall(LIVE + BEARER + b"\r\n")
        wait_for(lambda: waiting_bytes(impatient) > 0, "something that waits for the client")
        client.sendall(frame(CLOSE))
        wait_for(lambda: not held(impatient), "the end of a socket that reads nothing")


def waiting_bytes(server: Served) -> int:
    return sum(int(one.transport.get_write_buffer_size()) for one in tuple(held(server)))


@pytest.mark.parametrize("more", [b"X: " + b"y" * 9000 + b"\r\n", b"X: y\r\n" * 200], ids=["long", "many"])
def test_a_socket_asked_for_at_too_great_length_is_refused(impatient: Served, more: bytes) -> None:
    with connected(impatient) as client:
        client.sendall(LIVE + more + b"\r\n")
        answer = whole(client)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'{"error":"the head of this request cannot be read' in answer


def test_a_server_stops_although_sockets_were_refused_for_their_length() -> None:
    with served([PatternMicrophone()]) as server, connected(server) as client:
        client.sendall(LIVE + b"X: " + b"y" * 9000 + b"\r\n\r\n")
        assert client.recv(64).startswith(b"HTTP/1.1 431 ")


def test_one_piece_of_a_message_is_one_too_many(impatient: Served) -> None:
    with connected(impatient) as client:
        client.sendall(LIVE + BEARER + b"\r\n")
        assert client.recv(64).startswith(b"HTTP/1.1 101 ")
        client.sendall(frame(TEXT, last=False))
        assert b"this socket only tells" in whole(client)


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"PUT /v1/notice HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n", b"ZZ\r\n"),
        (LIVE + BEARER + b"\r\n", frame(TEXT, b"\xff\xff")),
    ],
    ids=["after the answer", "on a socket"],
)
def test_rubbish_is_not_worth_a_line_in_the_log(
    impatient: Served, caplog: pytest.LogCaptureFixture, first: bytes, then: bytes
) -> None:
    with connected(impatient) as client, caplog.at_level(logging.WARNING):
        client.sendall(first)
        assert client.recv(64).startswith(b"HTTP/1.1 ")
        client.sendall(then)
        whole(client)
        wait_for(lambda: not held(impatient), "the end of the connection")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
