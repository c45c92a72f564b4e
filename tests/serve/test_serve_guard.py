"""Who may ask `edgeemo serve`, from where, how often and how much."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs fastapi")
pytest.importorskip("uvicorn", reason="needs uvicorn")
pytest.importorskip("websockets", reason="needs websockets")

from live_server import TOKEN, Served, served
from starlette.routing import Mount, WebSocketRoute
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from edgeemo.errors import InputError, ServeError
from edgeemo.sensors import PatternMicrophone
from edgeemo.serve.address import (
    bind_socket,
    is_loopback,
    name_of_host_header,
    url_of,
)
from edgeemo.serve.options import ServeOptions
from edgeemo.serve.rate import RateLimit
from edgeemo.serve.token import cookie_from_token, is_same, read_token

BEARER = {"authorization": f"Bearer {TOKEN}"}
OPEN = {"/healthz", "/login", "/page"}
"""What is answered without a token: adding to this is a decision."""


@pytest.fixture(scope="module")
def locked() -> Iterator[Served]:
    with served([PatternMicrophone()], token=TOKEN, requests_per_s=1000.0) as server:
        yield server


def routes_of(server: Served) -> list[Any]:
    assert server.server.application is not None
    return list(server.server.application.routes.routes)


def test_every_route_wants_the_token(locked: Served) -> None:
    asked = 0
    with locked.client() as client:
        for route in routes_of(locked):
            path = re.sub(r"\{.*?\}", "audio", route.path)
            if path in OPEN:
                continue
            if isinstance(route, WebSocketRoute):
                with pytest.raises(InvalidStatus) as refused:
                    connect(locked.live, proxy=None)
                assert refused.value.response.status_code == 401
                asked += 1
                continue
            assert not isinstance(route, Mount), f"{path} needs a look of its own"
            for method in route.methods - {"HEAD"}:
                answer = client.request(method, path)
                if path == "/":
                    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
                else:
                    assert answer.status_code == 401, f"{method} {path}"
                    assert answer.headers["www-authenticate"] == "Bearer"
                    assert answer.json()["error"].startswith("show the token")
                asked += 1
    assert asked >= 12


def test_the_token_opens_every_door(locked: Served) -> None:
    with locked.client(headers=BEARER) as client:
        for path in ("/", "/readyz", "/v1/stats", "/metrics", "/openapi.json"):
            assert client.get(path).status_code in (200, 503)
    with connect(locked.live, additional_headers=BEARER, proxy=None) as live:
        assert '"type":"hello"' in str(live.recv(10))


def test_a_wrong_token_is_refused_and_then_not_listened_to() -> None:
    with served([PatternMicrophone()], token=TOKEN) as server, server.client() as client:
        wrong = {"authorization": f"Bearer {TOKEN}x"}
        answer = client.get("/v1/stats", headers=wrong)
        assert answer.status_code == 401
        assert answer.json() == {"error": "this is not the token of this server"}
        guesses = [{"authorization": f"Bearer {TOKEN}{number}"} for number in range(12)]
        answers = [client.get("/v1/stats", headers=guess).status_code for guess in guesses]
        assert answers[-1] == 429
        late = client.get("/v1/stats", headers=BEARER)
        assert late.status_code == 429
        assert int(late.headers["retry-after"]) >= 1
        assert client.get("/healthz").status_code == 200


def test_a_browser_logs_in_and_keeps_a_cookie_that_is_not_the_token(locked: Served) -> None:
    with locked.client() as client:
        form = client.get("/login")
        assert form.status_code == 200
        assert 'name="token"' in form.text
        wrong = client.post("/login", data={"token": "a-wrong-one-of-some-length"})
        assert wrong.status_code == 401
        assert "This is not the token of this server." in wrong.text
        right = client.post("/login", data={"token": TOKEN})
        assert (right.status_code, right.headers["location"]) == (303, "/")
        cookie = right.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert client.get("/v1/stats").status_code == 200
        origin = Origin(locked.url.rstrip("/"))
        with connect(
            locked.live, origin=origin, additional_headers={"cookie": cookie.partition(";")[0]}, proxy=None
        ) as live:
            assert '"type":"hello"' in str(live.recv(10))
    with locked.client(cookies={"edgeemo": cookie_from_token("another token of some length")}) as client:
        assert client.get("/v1/stats").status_code == 401
        assert client.get("/").headers["location"] == "/login"


def test_pages_with_an_old_cookie_keep_nobody_from_signing_in() -> None:
    with served([PatternMicrophone()], token=TOKEN) as server:
        with server.client(cookies={"edgeemo": cookie_from_token("the token of before the restart")}) as old:
            assert {old.get("/v1/events").status_code for _ in range(40)} == {401}
        with server.client() as client:
            assert client.post("/login", data={"token": TOKEN}).status_code == 303
            assert client.get("/v1/stats").status_code == 200


def test_a_form_of_somebody_else_is_refused_as_a_wrong_token(locked: Served) -> None:
    with locked.client() as client:
        answer = client.post("/login", content=b"&".join([b"field=1"] * 40))
    assert answer.status_code == 401
    assert "This is not the token of this server." in answer.text


def test_cookies_of_other_servers_on_this_machine_do_no_harm(locked: Served) -> None:
    cookies = f'theirs={{"a": [1, "b"]}}; edgeemo={cookie_from_token(TOKEN)}; more=é'
    with locked.client(headers={"cookie": cookies.encode("latin-1")}) as client:
        assert client.get("/v1/stats").status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 400),
        ("evil.example:80", 400),
        ("127.0.0.1.evil.example", 400),
        ("", 400),
        ("localhost:1", 200),
        ("LOCALHOST", 200),
        ("192.168.7.9:8080", 200),
        ("[::1]:8080", 200),
        ("kiosk.example", 200),
    ],
)
def test_only_names_of_ours_are_answered(host: str, status: int) -> None:
    answer = asked_of_guard([("host", host)])
    assert answer["status"] == status


def asked_of_guard(
    headers: list[tuple[str, str]], *, method: str = "GET", path: str = "/x", kind: str = "http"
) -> dict[str, Any]:
    """Returns what the guard says to a request, 200 where it lets it through."""
    import asyncio

    from edgeemo.serve.guard import Guard

    told: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        told["status"] = 200

    async def send(message: Any) -> None:
        told.setdefault("status", message.get("status"))
        told["body"] = message.get("body", b"").decode()

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "client": ("127.0.0.1", 5),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers],
        "extensions": {"websocket.http.response": {}},
    }
    asyncio.run(Guard(app, ServeOptions(names=("kiosk.example",)))(scope, receive, send))
    return told


HOST = ("host", "127.0.0.1:8080")


@pytest.mark.parametrize(
    ("headers", "method", "kind", "status"),
    [
        ([], "GET", "websocket", 200),
        ([("origin", "http://127.0.0.1:8080")], "GET", "websocket", 200),
        ([("origin", "http://127.0.0.1:9090")], "GET", "websocket", 403),
        ([("origin", "http://evil.example")], "GET", "websocket", 403),
        ([("origin", "null")], "GET", "websocket", 403),
        ([("origin", "")], "GET", "websocket", 403),
        ([("origin", "http://evil.example")], "PUT", "http", 403),
        ([("origin", "http://127.0.0.1:8080")], "PUT", "http", 200),
        ([("origin", "null")], "DELETE", "http", 403),
        ([("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")], "GET", "http", 403),
        ([("sec-fetch-site", "same-site"), ("sec-fetch-mode", "cors")], "GET", "http", 403),
        ([("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], "GET", "http", 200),
        ([("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], "POST", "http", 403),
        ([("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")], "PUT", "http", 200),
        ([("sec-fetch-site", "none")], "GET", "http", 200),
    ],
)
def test_pages_of_other_sites_get_nothing(
    headers: list[tuple[str, str]], method: str, kind: str, status: int
) -> None:
    assert asked_of_guard([HOST, *headers], method=method, kind=kind)["status"] == status


def test_a_socket_of_another_origin_is_refused_at_the_door(locked: Served) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(locked.live, origin=Origin("http://evil.example"), additional_headers=BEARER, proxy=None)
    assert refused.value.response.status_code == 403
    assert b"pages of http://evil.example may not use this server" in (refused.value.response.body or b"")


def test_a_preflight_of_another_site_is_given_nothing(locked: Served) -> None:
    asked = {"origin": "http://evil.example", "access-control-request-method": "PUT"}
    with locked.client(headers={**BEARER, **asked}) as client:
        answer = client.options("/v1/modalities/audio")
    assert answer.status_code >= 400
    assert "access-control-allow-origin" not in answer.headers


def test_large_bodies_are_refused_however_they_come(locked: Served) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(64):
            yield b"x" * 1024

    with locked.client(headers=BEARER) as client:
        declared = client.put("/v1/notice", content=b"x" * 5000)
        assert declared.status_code == 413
        assert declared.json() == {"error": "a request holds at most 4096 bytes"}
        assert client.put("/v1/notice", content=pieces()).status_code == 413
        assert client.get("/v1/stats").status_code == 200


def test_rubbish_costs_a_connection_and_nothing_else(locked: Served) -> None:
    for rubbish in (b"\x16\x03\x01 no http\r\n\r\n", b"GET /" + b"x" * 40000 + b" HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", locked.port), 10) as raw:
            raw.sendall(rubbish)
            assert raw.recv(64).startswith(b"HTTP/1.1 400")
    with locked.client() as client:
        assert client.get("/healthz").status_code == 200


def test_asking_too_often_is_refused_with_the_time_to_wait() -> None:
    with (
        served([PatternMicrophone()], max_clients=1, requests_per_s=1.0) as server,
        server.client() as client,
    ):
        answers = [client.get("/v1/events") for _ in range(320)]
        assert answers[0].status_code == 200
        assert answers[-1].status_code == 429
        assert answers[-1].json() == {"error": "too many requests; ask less often"}
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert client.get("/healthz").status_code == 200


def test_permits_come_back_with_time_and_each_client_has_its_own() -> None:
    now_s = 0.0
    limit = RateLimit(per_s=2.0, burst=3.0, clock=lambda: now_s)
    assert [limit.take("a") for _ in range(3)] == [0.0, 0.0, 0.0]
    assert limit.take("a") == pytest.approx(0.5)
    assert limit.take("b") == 0.0
    now_s = 0.5
    assert limit.wait_s("a") == 0.0
    assert limit.take("a") == 0.0
    assert limit.take("a") > 0.0


def test_the_clients_of_a_rate_limit_are_bounded() -> None:
    limit = RateLimit(per_s=1.0, burst=1.0)
    for number in range(5000):
        limit.take(str(number))
    assert len(limit._buckets) == 4096


def test_an_address_for_others_needs_a_token() -> None:
    for host in ("0.0.0.0", "192.168.1.2", "::", "kiosk.local"):  # noqa: S104
        with pytest.raises(InputError, match="can be reached from other machines"):
            ServeOptions(host=host)
        assert ServeOptions(host=host, token=TOKEN).token == TOKEN
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        assert is_loopback(ServeOptions(host=host).host)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"port": 70000}, "a port is 0 to 65535, got 70000"),
        ({"max_clients": 0}, "at least 1, got 0"),
        ({"max_clients": 10**7}, "clients need more than the"),
        ({"send_deadline_s": 0.0}, "send_deadline_s must be above 0"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        ServeOptions(**options)


def test_a_token_comes_from_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    path.chmod(0o644)
    with pytest.raises(InputError, match=f"run: chmod 600 {path}"):
        read_token(path)
    path.chmod(0o600)
    assert read_token(path, {"EDGEEMO_TOKEN": "another-token-of-some-length"}) == TOKEN
    assert read_token(None, {"EDGEEMO_TOKEN": TOKEN}) == TOKEN
    assert read_token(None, {}) is None


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("short", "has 5 characters, at least 16 are needed"),
        ("", "has 0 characters"),
        ("two words are no token", "without blanks"),
        ("x" * 2000, "more than 1024 characters"),
        ("schlüssel-der-lang-genug-ist", "of ASCII"),
    ],
)
def test_tokens_that_cannot_be_used_are_refused(tmp_path: Path, text: str, match: str) -> None:
    path = tmp_path / "token"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(InputError, match=match):
        read_token(path)


def test_a_token_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_token(tmp_path / "none")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_token(tmp_path)


def test_tokens_are_compared_whole() -> None:
    assert is_same(TOKEN, TOKEN)
    assert not is_same(TOKEN[:-1], TOKEN)
    assert not is_same("", TOKEN)
    assert not is_same("é" * 20, TOKEN)
    assert cookie_from_token(TOKEN) != cookie_from_token(TOKEN + "x")


def test_a_port_in_use_is_refused_with_another_way() -> None:
    with bind_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert url_of(taken) == f"http://127.0.0.1:{port}/"
        with pytest.raises(ServeError, match=f"port {port} of 127.0.0.1 is in use by another program"):
            bind_socket("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "match"),
    [("192.0.2.1", "is no address of this machine"), ("no such name", "there is no address 'no such name'")],
)
def test_an_address_of_others_is_refused(host: str, match: str) -> None:
    with pytest.raises(ServeError, match=match):
        bind_socket(host, 0)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("localhost", "localhost"),
        ("localhost:80", "localhost"),
        ("[::1]:80", "::1"),
        ("::1", "::1"),
        ("", ""),
        ("LocalHost", "localhost"),
    ],
)
def test_names_in_host_headers(header: str, name: str) -> None:
    assert name_of_host_header(header) == name
