"""A broker that is away, goes, hangs or talks nonsense: the session reads on, and somebody says why."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from live_like import write_live_like
from mosquitto import Broker, free_port, listening, passed_on, running, wait_for
from mqtt_speaker import RUN, Speaker, speaking

from edgeemo.bundle import Bundle
from edgeemo.mqtt import client
from edgeemo.mqtt.outbox import KEPT_EVENTS, KEPT_READINGS

pytest.importorskip("paho.mqtt", reason="needs paho-mqtt")

NEVER_S = 1e9


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_live_like(tmp_path_factory.mktemp("mqtt") / "bundle")


def test_a_broker_that_comes_later(bundle: Bundle, tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    with speaking(bundle, broker) as speaker:
        wait_for(lambda: speaker.told, "that there is no broker")
        speaker.speak(2)
        assert not speaker.publisher.stats.connected
        assert "connection refused" in speaker.publisher.stats.why
        with running(broker), listening(broker) as listener:
            wait_for(lambda: speaker.is_heard(listener), "a reading")
            assert len(speaker.told) == 2, "one sentence each, however often it was tried"
            assert speaker.told[0] == (
                f"no MQTT broker at 127.0.0.1:{broker.port}: connection refused; readings go on, and it is "
                "tried again"
            )
            assert speaker.told[1].startswith(f"the MQTT broker at 127.0.0.1:{broker.port} is there after")
            assert listener.data("home/robot/event")[0]["number"] == 1, "events waited"


def test_a_broker_that_goes_and_comes_back(bundle: Bundle, broker: Broker) -> None:
    with speaking(bundle, broker) as speaker:
        with listening(broker) as listener:
            wait_for(lambda: speaker.is_heard(listener), "a reading")
            broker.stop()
            wait_for(lambda: speaker.told, "that the broker is gone")
        before = len(speaker.readings)
        speaker.speak(KEPT_READINGS + 10)
        assert len(speaker.readings) == before + KEPT_READINGS + 10, "the session lost nothing"
        broker.start()
        with listening(broker) as again:
            again.wait_for("home/robot/availability", "online")
            wait_for(lambda: speaker.is_heard(again), "a reading after")
            newest = speaker.publisher.topics.discovery("homeassistant")
            assert again.texts(newest), "a broker that forgot everything is told everything"
            assert json.loads(again.texts("home/robot/state")[-1])["signal"]
        stats = speaker.publisher.stats
        assert stats.connections == 2
        assert stats.dropped_readings >= 10
        assert stats.readings == len(speaker.readings)
        assert [sentence.split(";")[0].split(" after ")[0] for sentence in speaker.told] == [
            f"no MQTT broker at 127.0.0.1:{broker.port}: {_lost(speaker.told[0])}",
            f"the MQTT broker at 127.0.0.1:{broker.port} is there",
        ]
        assert "readings and 0 events were not sent" in speaker.told[1]


def _lost(sentence: str) -> str:
    why = sentence.partition(": ")[2].partition(";")[0]
    assert why.startswith("the connection was lost")
    return why


def test_a_session_of_its_own_pace_reads_on_while_the_broker_is_gone(tmp_path: Path) -> None:
    broker = Broker(tmp_path)
    command = [*RUN, "--pace", "real", "--seconds", "4", "--mqtt", f"mqtt://127.0.0.1:{broker.port}/a"]
    with (
        running(broker),
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout
        lines = [process.stdout.readline() for _ in range(2)]
        broker.stop()
        out, errors = process.communicate(timeout=60)
    times = [json.loads(line)["time_s"] for line in [*lines, *out.splitlines()]]
    assert len(times) == 8, "no reading is missing"
    assert times == sorted(set(times))
    assert process.returncode == 0
    assert errors.count("no MQTT broker at") == 1, "once, however often it is tried"
    assert f"edgeemo run: no MQTT broker at 127.0.0.1:{broker.port}: " in errors
    assert "Traceback" not in errors


@contextmanager
def silent_server() -> Iterator[int]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as taken:
        ended = threading.Event()
        server.settimeout(0.05)

        def take() -> None:
            while not ended.is_set():
                try:
                    taken.enter_context(server.accept()[0])
                except TimeoutError:
                    continue

        thread = threading.Thread(target=take)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            ended.set()
            thread.join()


def test_a_broker_that_never_answers_holds_nobody_up(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_S", NEVER_S)
    with silent_server() as port:
        speaker = Speaker(bundle, f"mqtt://127.0.0.1:{port}/a")
        speaker.speak(KEPT_READINGS + 1)
        assert not speaker.publisher.flush(0.01)
        speaker.close()  # returns, although nobody will ever answer
        assert not speaker.publisher.stats.connected
        assert speaker.publisher.stats.dropped_readings == 1


def test_a_broker_that_never_answers_is_given_up(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER_S", 0.1)
    with silent_server() as port:
        speaker = Speaker(bundle, f"mqtt://127.0.0.1:{port}/a")
        wait_for(lambda: speaker.told, "a sentence")
        speaker.close()
    assert "it took the connection and did not answer within 0.1 s" in speaker.told[0]


def test_a_handshake_that_never_ends_holds_nobody_up(bundle: Bundle) -> None:
    with silent_server() as port:
        speaker = Speaker(bundle, f"mqtts://127.0.0.1:{port}/a")
        speaker.speak(2)
        speaker.close()


def test_a_broker_that_freezes_holds_nobody_up(
    bundle: Bundle, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "KEEPALIVE_S", 60)
    with speaking(bundle, broker) as speaker:
        assert speaker.publisher.wait_connected(30)
        speaker.speak()
        assert speaker.publisher.flush(30)
        broker.freeze()
        speaker.speak(2 * KEPT_READINGS)
        assert not speaker.publisher.flush(0.01), "events wait for their confirmation"
        speaker.close()
        broker.thaw()
    with listening(broker) as listener:
        wait_for(lambda: listener.texts("home/robot/availability")[-1:] == ["offline"], "the last will")


def test_a_broker_that_freezes_is_noticed(
    bundle: Bundle, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "KEEPALIVE_S", 1)
    monkeypatch.setattr(client, "ANSWER_S", 1.0)
    with speaking(bundle, broker) as speaker:
        assert speaker.publisher.wait_connected(30)
        broker.freeze()
        wait_for(lambda: speaker.speak() or speaker.told, "that the broker is gone")
        assert speaker.session.events()
        broker.thaw()
        with listening(broker) as listener:
            wait_for(lambda: speaker.is_heard(listener), "a reading after")


def test_more_events_than_are_kept_are_counted(bundle: Bundle, tmp_path: Path) -> None:
    broker, way = Broker(tmp_path), free_port()
    with running(broker), listening(broker) as listener, speaking(bundle, broker, port=way) as speaker:
        wait_for(lambda: speaker.told, "that there is no broker")
        for _ in range(KEPT_EVENTS):  # each pair tells of two states and a subset
            speaker.speak()
            speaker.session.mute("text")
            _read(speaker)
            speaker.session.unmute("text")
        total = speaker.session.events()[-1].number
        assert total > KEPT_EVENTS
        with passed_on(way, to=broker.port):  # not before somebody listens
            wait_for(lambda: len(listener.data("home/robot/event")) >= KEPT_EVENTS, "the newest events")
            numbers = [event["number"] for event in listener.data("home/robot/event")]
            assert numbers == list(range(total - KEPT_EVENTS + 1, total + 1))
            assert speaker.publisher.stats.dropped_events == total - KEPT_EVENTS


def _read(speaker: Speaker) -> None:
    speaker.readings.append(speaker.session.read(at_s=0.5 * (len(speaker.readings) + 1)))
    speaker.publisher.publish(speaker.readings[-1])


def test_two_of_one_name_throw_each_other_out_and_hear_why(bundle: Bundle, broker: Broker) -> None:
    with speaking(bundle, broker, client_id="kiosk") as one:
        assert one.publisher.wait_connected(30)
        with speaking(bundle, broker, client_id="kiosk") as other:
            wait_for(lambda: one.told and other.told, "that each was thrown out")
        for speaker in (one, other):
            assert "if that goes on, another client has our name, 'kiosk'; readings go on" in speaker.told[0]


@pytest.mark.parametrize("rubbish", [b"\x30\x06\x00\x03\xff\xfe\xfda", b"\x30\x01\x00", b"\xff" * 50])
def test_a_broker_that_speaks_no_mqtt_is_left_in_a_sentence(
    bundle: Bundle, caplog: pytest.LogCaptureFixture, rubbish: bytes
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        speaker = Speaker(bundle, f"mqtt://127.0.0.1:{server.getsockname()[1]}/a")
        connection, _ = server.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"\x20\x02\x00\x00" + rubbish)
            wait_for(lambda: speaker.told, "a sentence")
        speaker.close()
    assert speaker.told[0].startswith("no MQTT broker at 127.0.0.1:")
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
