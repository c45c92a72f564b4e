"""The live socket of `edgeemo serve`: what it tells, and what clients can do to it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="needs fastapi")
pytest.importorskip("uvicorn", reason="needs uvicorn")
pytest.importorskip("websockets", reason="needs websockets")

import httpx
import numpy as np
from live_server import Served, Switchable, served, wait_for
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from edgeemo.schemas import load_schema
from edgeemo.sensors import Chunk, MediaFile, PatternCamera, PatternMicrophone, TextQueue
from edgeemo.serve.clients import Client, Clients
from edgeemo.serve.history import KEPT_S, History
from edgeemo.serve.looped import LoopedMedia, play_again_and_again
from edgeemo.serve.taps import Tap
from edgeemo.shipped import RECORDING

jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema")


def listen(server: Served) -> ClientConnection:
    return connect(server.live, proxy=None, max_queue=None)


def told(live: ClientConnection, *kinds: str) -> Iterator[dict[str, Any]]:
    """Yields messages of these kinds, or all."""
    while True:
        message = json.loads(live.recv(20))
        if not kinds or message["type"] in kinds:
            yield message


def test_every_message_has_its_documented_shape() -> None:
    schema = jsonschema.Draft202012Validator(load_schema("live"))
    with served(notice="You are being sensed.") as server, server.client() as client, listen(server) as live:
        messages = told(live)
        hello = next(messages)
        assert hello["type"] == "hello"
        assert hello["notice"] == {"text": "You are being sensed.", "acknowledged": False, "by": None}
        assert hello["modalities"] == ["audio", "video", "text"]
        schema.validate(hello)
        assert next(told(live, "status"))["sensors"]["audio"]["state"] == "absent"
        client.put("/v1/notice", json={"by": "a visitor"})
        seen: set[str] = set()
        while seen != {"reading", "event", "status"}:
            message = next(messages)
            schema.validate(message)
            seen.add(message["type"])
        status = next(found for found in told(live, "status") if found["meters"]["audio"]["level_dbfs"])
        assert -30 < status["meters"]["audio"]["level_dbfs"] < -15
        assert 0.2 < status["meters"]["video"]["brightness"] < 0.5
        assert status["sensors"]["text"] == {
            "state": "absent", "why": "no sensor was given for it", "rate": None, "declared_rate": None,
            "drops": 0, "reconnects": 0,
        }  # fmt: skip
        assert status["clients"] == 1
        client.delete("/v1/notice")
        again = next(told(live, "hello"))
        assert again["history"] == []
        assert again["notice"]["acknowledged"] is False
    last = json.loads(json.dumps(again))
    schema.validate(last)


@pytest.mark.parametrize("loud", [float("inf"), float("nan")])
def test_sound_that_is_no_sound_has_no_level_and_hides_nothing_else(loud: float) -> None:
    class Broken(PatternMicrophone):
        def poll(self, timeout_s: float = 0.0) -> list[Chunk]:
            noise = np.full(800, loud, np.float32)
            return [replace(chunk, data=noise) for chunk in super().poll(timeout_s)]

    with served([Broken()]) as server, listen(server) as live:
        wait_for(lambda: bool(server.taps["audio"]._sound), "sound")
        statuses = told(live, "status")
        assert [next(statuses)["meters"]["audio"]["level_dbfs"] for _ in range(2)][-1] is None


def test_a_client_that_comes_later_gets_the_last_minutes() -> None:
    with served(settings={"hop_s": 0.25}) as server:
        wait_for(lambda: len(server.hub._history.texts()) >= 3, "three readings")
        with listen(server) as live:
            hello = next(told(live))
            times_s = [reading["time_s"] for reading in hello["history"]]
            assert times_s == sorted(times_s)
            assert len(times_s) >= 3
            following = next(told(live, "reading"))["reading"]["time_s"]
            assert following >= times_s[-1]


def test_a_dropped_sensor_is_told_within_a_second_of_capture_time() -> None:
    microphone = Switchable()
    with served([microphone]) as server, listen(server) as live:
        next(told(live, "reading"))
        assert next(told(live, "status"))["sensors"]["audio"]["state"] == "running"
        microphone.pull_out()
        for message in told(live, "status", "reading"):
            if message["type"] == "status" and message["sensors"]["audio"]["state"] == "lost":
                assert message["sensors"]["audio"]["why"] == "somebody pulled it out"
                break
            # A reading from more than a second after the loss must not come before the news of it.
            if message["type"] == "reading":
                assert message["reading"]["time_s"] <= microphone.lost_s + 1.0
        reading = next(
            found["reading"]
            for found in told(live, "reading")
            if found["reading"]["time_s"] > microphone.lost_s
        )
        assert reading["states"]["audio"]["state"] == "lost"


def test_a_lost_sensor_is_told_without_waiting_for_the_next_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeemo.serve.hub.STATUS_S", 1000.0)
    microphone = Switchable()
    with served([microphone]) as server, listen(server) as live:
        next(told(live, "reading"))
        microphone.pull_out()
        assert next(told(live, "status"))["sensors"]["audio"]["state"] == "lost"


def test_the_end_is_told_and_to_those_who_come_after_it() -> None:
    with served([PatternMicrophone()], lasts_s=0.9) as server, server.client() as client:
        with listen(server) as live:
            assert next(told(live, "end")) == {"type": "end", "why": "the recording has ended"}
        assert client.get("/readyz").json() == {"ready": False, "why": "the recording has ended"}
        assert client.get("/v1/reading").status_code == 200
        with listen(server) as live:
            assert next(told(live, "end"))["why"] == "the recording has ended"


def test_whoever_is_given_readings_is_told_of_silence_and_nothing_after_it() -> None:
    told: list[str] = []
    with (
        served(
            [PatternMicrophone()],
            notice="You are being sensed.",
            settings={"hop_s": 0.1},
            on_reading=lambda reading: told.append("a reading"),
            on_silence=told.append,
        ) as server,
        server.client() as client,
    ):
        client.put("/v1/notice", json={"by": "a visitor"})
        wait_for(lambda: len(told) > 2, "readings")
        client.delete("/v1/notice")
        assert told[-1] == "the acknowledgement of the notice was withdrawn"
    assert set(told[:-2]) == {"a reading"}
    assert told[-2:] == ["the acknowledgement of the notice was withdrawn", "the server was stopped"]


def test_clients_that_leave_while_they_are_counted_do_no_harm() -> None:
    async def come_and_go() -> None:
        clients = Clients(most=4, deadline_s=10.0)

        class Leaving(Client):
            @property
            def replaced(self) -> int:
                clients.leave(self)
                return 1

            @replaced.setter
            def replaced(self, count: int) -> None:
                pass

        for _ in range(4):
            assert clients.join(Leaving(send=nothing, abort=lambda: None))
        assert clients.replaced >= 4

    async def nothing(text: str) -> None:
        pass

    asyncio.run(come_and_go())


def test_stopping_tells_why_and_closes_the_socket() -> None:
    with served([PatternMicrophone()]) as server, listen(server) as live:
        next(told(live))
        server.server.stop()
        assert next(told(live, "end"))["why"] == "the server was stopped"
        with pytest.raises(ConnectionClosed) as closed:
            live.recv(20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012


@pytest.mark.parametrize(("message", "code"), [("hello", 1008), (b"hello", 1008), ("x" * 2000, 1009)])
def test_a_client_that_talks_is_sent_away(message: str | bytes, code: int) -> None:
    with served([PatternMicrophone()]) as server, listen(server) as live:
        next(told(live))
        live.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            list(told(live))
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == code
        wait_for(lambda: server.hub._count_clients() == 0, "it is forgotten")


def test_one_client_too_many_is_refused_at_the_door() -> None:
    with (
        served([PatternMicrophone()], max_clients=2) as server,
        server.client() as client,
        ExitStack() as stack,
    ):
        for _ in range(2):
            next(told(stack.enter_context(listen(server))))
        with pytest.raises(InvalidStatus) as refused:
            listen(server)
        assert refused.value.response.status_code == 503
        assert b"2 clients are connected, which is the most" in (refused.value.response.body or b"")
        assert "edgeemo_clients_refused_total 1.0" in client.get("/metrics").text
    with served([PatternMicrophone()], max_clients=1) as server:
        for _ in range(3):  # a place becomes free when its client goes
            with listen(server) as live:
                next(told(live))
            wait_for(lambda: server.hub._count_clients() == 0, "a free place")


def upgrade(port: int) -> socket.socket:
    """Returns a raw socket that has asked for the live messages, and never reads."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    raw.connect(("127.0.0.1", port))
    key = b64encode(os.urandom(16)).decode()
    raw.sendall(
        f"GET /v1/live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    return raw


def test_hundreds_of_clients_that_never_read_are_cut_off_and_the_session_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgeemo.serve.address._SEND_BUFFER", 4096)  # so that it is full within seconds
    monkeypatch.setattr("edgeemo.serve.connections._WAITING_BYTES", 4096)
    settings = {"hop_s": 0.25}
    with ExitStack() as stack:
        server = stack.enter_context(served(settings=settings, max_clients=150, send_deadline_s=1.0))
        client = stack.enter_context(server.client())
        deaf = [stack.enter_context(upgrade(server.port)) for _ in range(300)]
        wait_for(lambda: figure(client, "edgeemo_clients_cut_off_total") >= 150, "150 are cut off")
        wait_for(lambda: figure(client, "edgeemo_clients_refused_total") >= 1, "others found no room")
        with listen(server) as live:  # there is room again
            readings = told(live, "reading")
            first, second = next(readings), next(readings)
            assert second["reading"]["time_s"] > first["reading"]["time_s"]
        stats = client.get("/v1/stats").json()
        assert stats["missed_by_callbacks"] == 0
        assert len(deaf) == 300


def figure(client: Any, name: str) -> float:
    try:
        text = client.get("/metrics").text
    except httpx.TransportError:  # no connection is left at this moment
        return -1.0
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"{name} "))


def test_connections_that_ask_for_nothing_leave_room_for_those_that_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("edgeemo.serve.connections._REQUEST_S", 0.5)
    with served([PatternMicrophone()], max_clients=1) as server, ExitStack() as stack:
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(100)
        ]
        for raw in silent:
            raw.settimeout(20.0)
            with pytest.raises((ConnectionResetError, BrokenPipeError)):  # noqa: PT012 - either call may tell
                if raw.recv(1) == b"":
                    raise ConnectionResetError
        with server.client() as client:
            assert client.get("/healthz").status_code == 200


def run(scene: Callable[[], Any]) -> None:
    asyncio.run(scene())


def test_a_slow_client_gets_the_newest_of_each_kind() -> None:
    sent: list[str] = []

    async def scene() -> None:
        gate = asyncio.Event()

        async def send(text: str) -> None:
            await gate.wait()
            sent.append(text)

        client = Client(send, lambda: None)
        task = asyncio.ensure_future(client.send_all())
        client.put("reading", "r1")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for number in range(2, 8):
            client.put("reading", f"r{number}")
            client.put("event", f"e{number}")
            client.put("status", f"s{number}")
        gate.set()
        for _ in range(20):
            await asyncio.sleep(0)
        task.cancel()
        assert client.replaced == 2 + 5

    run(scene)
    events, readings = [f"e{number}" for number in range(2, 8)], [f"r{number}" for number in range(4, 8)]
    assert sorted(sent) == sorted(["r1", *events, *readings, "s7"])
    assert [text for text in sent if text[0] == "r"] == ["r1", *readings]


def test_a_client_that_takes_nothing_holds_a_bounded_number_of_texts() -> None:
    async def never(text: str) -> None:
        await asyncio.Event().wait()

    async def scene() -> None:
        client = Client(never, lambda: None)
        task = asyncio.ensure_future(client.send_all())
        for number in range(10_000):
            for kind in ("hello", "event", "reading", "status", "end"):
                client.put(kind, f"{kind} {number}")
        assert sum(map(len, client._slots.values())) <= 71
        task.cancel()

    run(scene)


def test_a_hello_takes_the_place_of_what_waited_before_it() -> None:
    sent: list[str] = []

    async def send(text: str) -> None:
        sent.append(text)

    async def scene() -> None:
        client = Client(send, lambda: None)
        for kind in ("reading", "event", "hello", "reading"):
            client.put(kind, kind)
        task = asyncio.ensure_future(client.send_all())
        for _ in range(10):
            await asyncio.sleep(0)
        task.cancel()

    run(scene)
    assert sent == ["hello", "reading"]


def test_who_is_overdue_is_cut_off_and_counted() -> None:
    async def never(text: str) -> None:
        await asyncio.Event().wait()

    async def scene() -> None:
        ended: list[str] = []
        clients = Clients(most=2, deadline_s=0.01)
        deaf, idle = Client(never, lambda: ended.append("deaf")), Client(never, lambda: ended.append("idle"))
        assert clients.join(deaf)
        assert clients.join(idle)
        assert not clients.join(Client(never, lambda: None))
        sweeping = asyncio.ensure_future(clients.sweep())
        sending = asyncio.ensure_future(deaf.send_all())
        deaf.put("reading", "r")
        for _ in range(1000):
            if ended:
                break
            await asyncio.sleep(0.01)
        assert (ended, clients.cut_off, clients.refused, len(clients)) == (["deaf"], 1, 1, 1)
        for task in (sweeping, sending):
            task.cancel()

    run(scene)


def test_history_is_bounded_in_time_and_number() -> None:
    history = History()
    for number in range(10_000):
        time_s = number * 0.1
        if history.wants(time_s):
            history.add(time_s, str(number))
    assert len(history.texts()) <= KEPT_S / 0.24 + 1
    assert float(history.texts()[0]) * 0.1 >= 999.9 - KEPT_S
    history.clear()
    assert history.texts() == []


def test_a_tap_passes_on_what_it_sees_and_forgets_when_closed() -> None:
    words = TextQueue()
    tap = Tap(words)
    tap.start(time.monotonic)
    words.push("two words")
    chunks = tap.poll()
    assert [chunk.text for chunk in chunks] == ["two words"]
    assert tap.meter() == {"words": 2}
    assert tap.status.state == "running"
    tap.close()
    assert tap.meter() == {"words": 0}
    camera = Tap(PatternCamera(fps=100.0))
    camera.start(time.monotonic)
    seen: list[Chunk] = []

    def see_more() -> bool:
        seen.extend(camera.poll())
        return len(seen) > 3

    wait_for(see_more, "pictures")
    _, frame = camera.newest_frame()
    assert frame is not None
    assert frame is seen[-1].data
    camera.close()
    assert camera.newest_frame()[1] is None
    assert camera.meter()["brightness"] is None


def test_a_tap_of_a_sensor_that_raises_is_lost_until_it_does_not() -> None:
    class Raising(Switchable):
        raises = True

        def poll(self, timeout_s: float = 0.0) -> list[Chunk]:
            if self.raises:
                raise RuntimeError("no driver")
            return super().poll(timeout_s)

    sensor = Raising()
    tap = Tap(sensor)
    tap.start(time.monotonic)
    with pytest.raises(RuntimeError, match="no driver"):
        tap.poll()
    assert tap.state() == "lost"
    sensor.raises = False
    tap.poll()
    assert tap.state() == "running"


def test_a_looped_recording_repeats_itself_on_one_line_of_time() -> None:
    with LoopedMedia(RECORDING) as looped, MediaFile(RECORDING) as once:
        assert looped.duration_s is None
        lap = [chunk for chunk in once.chunks_of("audio") if chunk.time_s < looped.length_s]
        chunks = looped.chunks_of("audio")
        two = [next(chunks) for _ in range(2 * len(lap))]
        times_s = [chunk.time_s for chunk in two]
        assert times_s == sorted(times_s)
        for first, second in zip(two[: len(lap)], two[len(lap) :], strict=True):
            assert second.time_s == pytest.approx(first.time_s + looped.length_s)
            assert (second.array == first.array).all()
        looped.close()
        assert list(looped.chunks_of("audio")) == []


def test_a_looped_sensor_that_opens_late_begins_in_the_lap_under_way() -> None:
    now_s = 100.0
    with LoopedMedia(RECORDING) as looped:
        audio, *_ = play_again_and_again(looped)
        timeline = audio._timeline
        assert timeline.start_s(lambda: now_s) == 100.0
        now_s += 5000.5 * looped.length_s
        assert timeline.start_s(lambda: now_s) == pytest.approx(100.0 + 5000 * looped.length_s)


def test_a_recording_in_a_loop_goes_on_past_its_end(tmp_path: Any) -> None:
    with LoopedMedia(RECORDING) as looped:
        looped.length_s = 1.5  # so that laps are short
        settings = {"hop_s": 0.25, "hold_s": 0.0}
        with served(play_again_and_again(looped), settings=settings) as server, listen(server) as live:
            for message in told(live, "reading"):
                if message["reading"]["time_s"] > 4.0:
                    break
            assert message["reading"]["states"]["audio"]["state"] != "lost"
            assert server.hub.stats.sensors["audio"].drops == 0
