"""Readings through a real broker, and all that a broker may do to a session."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from live_like import write_live_like
from mosquitto import PROGRAM, Broker, Listener, free_port, listening, passed_on, running, wait_for

from edgeemo.bundle import Bundle
from edgeemo.clock import VirtualClock
from edgeemo.mqtt import Publisher, Tls, Topics, client
from edgeemo.mqtt.outbox import KEPT_EVENTS, KEPT_READINGS
from edgeemo.sensors import TextQueue
from edgeemo.sensors.supervision import Patience
from edgeemo.session import Reading, Session, State
from edgeemo.shipped import RECORDING

pytest.importorskip("paho.mqtt", reason="needs paho-mqtt")
if PROGRAM is None:
    pytest.skip("needs mosquitto", allow_module_level=True)

EAGER = Patience(first_wait_s=0.05, most_wait_s=0.2)
RUN = [sys.executable, "-m", "edgeemo", "run", "--media", str(RECORDING), "--json"]
NEVER_S = 1e9
PASSWORD = "right"  # noqa: S105 - of a user of a test


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with running(Broker(tmp_path)) as started:
        yield started


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_live_like(tmp_path_factory.mktemp("mqtt") / "bundle")


class Speaker:
    """A session that says something at each hop, and who publishes it."""

    def __init__(self, bundle: Bundle, url: str, **options: Any) -> None:
        self.told: list[str] = []
        self.session = Session(bundle, clock=VirtualClock())
        self.publisher = Publisher(url, self.session, patience=EAGER, tell=self.told.append, **options)
        self.readings: list[Reading] = []

    def speak(self, hops: int = 1) -> None:
        for _ in range(hops):
            at_s = 0.5 * (len(self.readings) + 1)
            self.session.push_text(f"word {at_s}", time_s=at_s)
            self.readings.append(self.session.read(at_s=at_s))
            self.publisher.publish(self.readings[-1])

    def is_heard(self, listener: Listener) -> bool:
        """Says something new, and whether any of what was said since the last time has arrived."""
        self.speak()
        heard = listener.data(self.publisher.topics.reading)
        return any(reading.to_json() in heard for reading in self.readings[-20:-1])

    def close(self) -> None:
        self.publisher.close()
        self.session.close()


@contextmanager
def speaking(
    bundle: Bundle, broker: Broker, *, scheme: str = "mqtt", user: str = "", port: int = 0, **options: Any
) -> Any:
    speaker = Speaker(bundle, f"{scheme}://{user}{broker.host}:{port or broker.port}/home/robot", **options)
    try:
        yield speaker
    finally:
        speaker.close()


def test_every_reading_of_a_recording_arrives_as_it_was(broker: Broker) -> None:
    with listening(broker) as listener:
        url = f"mqtt://127.0.0.1:{broker.port}/home/robot"
        done = subprocess.run(
            [*RUN, "--drop", "video@3-5", "--mqtt", url],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "MQTT" not in done.stderr, "where nothing is wrong nothing is said"
        wait_for(lambda: listener.texts("home/robot/availability") == ["online", "offline"], "the end")
    readings = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(readings) == 28
    assert listener.data("home/robot/reading") == readings
    events = listener.data("home/robot/event")
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert {"subset_changed", "state_changed", "emotion_changed"} <= {event["kind"] for event in events}
    subsets = changes(state["subset"] for state in listener.data("home/robot/state"))
    assert subsets == [*changes(reading["subset"] for reading in readings), None]
    video = changes(state["state"] for state in listener.data("home/robot/modality/video"))
    assert video == [*changes(reading["states"]["video"]["state"] for reading in readings), "absent"]
    assert "lost" in video
    with listening(broker) as late:  # what is kept once the session has ended says nothing stale
        wait_for(lambda: len(late.retained()) >= 6, "six retained topics")
        kept = late.retained()
    assert kept.pop("home/robot/availability") == "offline"
    state = json.loads(kept.pop("home/robot/state"))
    assert (state["signal"], state["emotion"], state["time_s"]) == (False, None, 14.0)
    told = json.loads(kept.pop(Topics("home/robot").discovery("homeassistant")))
    assert told["state_topic"] == "home/robot/state"
    assert {json.loads(text)["state"] for text in kept.values()} == {"absent"}
    assert set(kept) == {f"home/robot/modality/{name}" for name in ("audio", "video", "text")}


def changes(values: Iterable[Any]) -> list[Any]:
    return [value for value, _ in groupby(values)]


def test_a_process_that_is_killed_is_offline(broker: Broker) -> None:
    with listening(broker) as listener:
        command = [*RUN, "--pace", "real", "--mqtt", f"mqtt://127.0.0.1:{broker.port}/home/robot"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                listener.wait_for("home/robot/availability", "online")
                wait_for(lambda: listener.texts("home/robot/reading"), "a reading")
            finally:
                process.send_signal(signal.SIGKILL)
        listener.wait_for("home/robot/availability", "offline")  # which nobody but the broker can say


def test_who_comes_late_hears_what_is_true_now(bundle: Bundle, broker: Broker) -> None:
    with speaking(bundle, broker) as speaker:
        speaker.speak(3)
        assert speaker.publisher.flush(30)
        with listening(broker) as listener:
            wait_for(lambda: len(listener.retained()) >= 6, "six retained topics")
            kept = listener.retained()
            assert kept["home/robot/availability"] == "online"
            assert json.loads(kept["home/robot/state"])["subset"] == "text"
            assert json.loads(kept["home/robot/modality/text"])["state"] == "live"
            assert "home/robot/reading" not in kept
            assert "home/robot/event" not in kept


def test_who_comes_into_silence_hears_nothing_of_what_was(bundle: Bundle, broker: Broker) -> None:
    with speaking(bundle, broker) as speaker, listening(broker) as listener:
        speaker.speak(4)
        topics = speaker.publisher.topics
        wait_for(lambda: any(state["signal"] for state in listener.data(topics.state)), "a state")
        speaker.publisher.silence("somebody took it back")
        wait_for(lambda: not listener.data(topics.state)[-1]["signal"], "silence")
        wait_for(lambda: listener.data(topics.modality("text"))[-1]["state"] == "absent", "its reason")
        with listening(broker) as late:
            listener.say("a/mark", "now")
            late.wait_for("a/mark", "now")
            kept = {topic: json.loads(text) for topic, text in late.retained().items() if text[:1] == "{"}
        assert kept[topics.state]["emotion"] is None
        assert kept[topics.modality("text")] == {
            "state": "absent", "why": "somebody took it back", "since_s": speaker.readings[-1].time_s,
        }  # fmt: skip
        assert late.retained()[topics.availability] == "online"


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


def test_home_assistant_that_starts_later_is_told_again(bundle: Bundle, broker: Broker) -> None:
    with speaking(bundle, broker, discovery="ha") as speaker, listening(broker) as listener:
        topic = speaker.publisher.topics.discovery("ha")
        speaker.speak()
        wait_for(lambda: listener.texts(topic), "the device")
        before = len(listener.texts(topic))
        listener.say("ha/status", "offline")
        listener.say("ha/status", "online")
        wait_for(lambda: len(listener.texts(topic)) == before + 1, "the device again")
        wait_for(lambda: len(listener.texts("home/robot/state")) >= 2, "the state again")
    assert len(set(listener.texts(topic))) == 1


def test_without_discovery_nothing_is_said_to_home_assistant(bundle: Bundle, broker: Broker) -> None:
    with listening(broker) as listener:
        with speaking(bundle, broker, discovery=None) as speaker:
            speaker.speak()
            assert speaker.publisher.flush(30)
        listener.wait_for("home/robot/availability", "offline")
        assert not [topic for topic in listener.retained() if not topic.startswith("home/robot/")]


def test_a_will_of_an_older_connection_is_set_right(bundle: Bundle, broker: Broker) -> None:
    with speaking(bundle, broker) as speaker, listening(broker) as listener:
        assert speaker.publisher.wait_connected(30)
        listener.wait_for("home/robot/availability", "online")
        listener.say("home/robot/availability", "offline", retained=True)
        wait_for(lambda: listener.texts("home/robot/availability")[-2:] == ["offline", "online"], "online")


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


def test_two_of_one_name_throw_each_other_out_and_hear_why(bundle: Bundle, broker: Broker) -> None:
    with speaking(bundle, broker, client_id="kiosk") as one:
        assert one.publisher.wait_connected(30)
        with speaking(bundle, broker, client_id="kiosk") as other:
            wait_for(lambda: one.told and other.told, "that each was thrown out")
        for speaker in (one, other):
            assert "if that goes on, another client has our name, 'kiosk'; readings go on" in speaker.told[0]


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


@contextmanager
def live_session(bundle: Bundle) -> Iterator[tuple[Session, TextQueue]]:
    words = TextQueue()
    with Session(bundle, sensors=[words]) as session:
        session.start()
        yield session, words


def test_commands_really_mute(bundle: Bundle, broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    url = f"mqtt://127.0.0.1:{broker.port}/a"
    with live_session(bundle) as (session, _), listening(broker) as listener:
        listener.say("a/mute/text", "ON", retained=True)  # from any time: not obeyed
        with Publisher(url, session, commands=True, patience=EAGER) as publisher:
            assert publisher.wait_connected(30)
            publisher.publish(session.read())
            assert publisher.flush(30)
            wait_for(lambda: "had kept on a/mute/text is not obeyed" in caplog.text, "a warning")
            listener.say("a/mute/nose", "ON")
            listener.say("a/mute/text", "perhaps")
            wait_for(lambda: "a/mute/text takes ON or OFF, got 'perhaps'" in caplog.text, "a warning")
            assert session.stats().sensors["text"].state == "running"
            listener.say("a/mute/text", "ON")
            wait_for(lambda: session.stats().sensors["text"].state == "absent", "a closed sensor")
            publisher.publish(session.read())
            wait_for(lambda: listener.data("a/modality/text")[-1]["state"] == "muted", "that it is muted")
            listener.say("a/mute/text", "OFF")
            wait_for(lambda: session.read().states["text"].state is not State.MUTED, "an open sensor")
            assert session.stats().sensors["text"].state == "running"
            publisher.publish(session.read())
            wait_for(lambda: listener.data("a/modality/text")[-1]["state"] != "muted", "that it is not")


def test_commands_that_were_not_allowed_do_nothing(bundle: Bundle, broker: Broker) -> None:
    url = f"mqtt://127.0.0.1:{broker.port}/a"
    with (
        live_session(bundle) as (session, _),
        listening(broker) as listener,
        Publisher(url, session, patience=EAGER) as publisher,
    ):
        device = publisher.topics.discovery("homeassistant")
        wait_for(lambda: listener.texts(device), "the device")
        before = len(listener.texts(device))
        listener.say("a/mute/text", "ON")
        listener.say("homeassistant/status", "online")  # behind it on the same connection
        wait_for(lambda: len(listener.texts(device)) > before, "the device again")
        assert session.read().states["text"].state != "muted"


def make_certificates(folder: Path) -> None:
    """Two authorities, a certificate of the first for localhost, and one for a client."""

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True, timeout=60)

    for name in ("ca", "other"):
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key")
        extra = ("-addext", "keyUsage=critical,keyCertSign", "-subj", f"/CN={name}")
        openssl("req", "-x509", *key, "-days", "2", "-out", f"{name}.pem", *extra)
    for name in ("server", "client"):
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key")
        openssl("req", *key, "-out", f"{name}.csr", "-subj", f"/CN={name}")
        (folder / "names").write_text("subjectAltName=DNS:localhost\n", encoding="utf8")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.pem")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@pytest.fixture
def encrypted(certificates: Path, tmp_path: Path) -> Iterator[Broker]:
    names = {"cafile": "ca.pem", "certfile": "server.pem", "keyfile": "server.key"}
    lines = [f"{word} {certificates / name}" for word, name in names.items()]
    with running(Broker(tmp_path, *lines, "require_certificate true")) as broker:
        yield broker


def test_an_encrypted_connection_to_a_broker_that_we_trust(
    bundle: Bundle, encrypted: Broker, certificates: Path
) -> None:
    tls = Tls(certificates / "ca.pem", certificates / "client.pem", certificates / "client.key")
    with speaking(bundle, encrypted, scheme="mqtts", tls=tls) as speaker:
        assert speaker.publisher.wait_connected(30), speaker.told
        speaker.speak(3)
        assert speaker.publisher.flush(30)
    assert not speaker.told


@pytest.mark.parametrize(
    "case",
    [
        (("other.pem", "client.pem", "client.key"), "localhost", "its certificate is not trusted"),
        ((None, None, None), "localhost", "its certificate is not trusted"),
        (("ca.pem", "client.pem", "client.key"), "127.0.0.1", "IP address mismatch"),
        (("ca.pem", None, None), "localhost", "a certificate of ours"),
    ],
)
def test_an_encrypted_connection_that_must_not_be(
    bundle: Bundle,
    encrypted: Broker,
    certificates: Path,
    case: tuple[tuple[str | None, ...], str, str],
) -> None:
    files, host, sentence = case
    tls = Tls(*(None if name is None else certificates / name for name in files))
    encrypted.host = host
    with speaking(bundle, encrypted, scheme="mqtts", tls=tls) as speaker:
        speaker.speak(2)
        wait_for(lambda: speaker.told, "a sentence")
        assert not speaker.publisher.stats.connections
    assert sentence in speaker.told[0]


def test_mqtts_to_a_port_without_tls_and_the_other_way_round(
    bundle: Bundle, broker: Broker, encrypted: Broker
) -> None:
    with speaking(bundle, broker, scheme="mqtts") as speaker:
        wait_for(lambda: speaker.told, "a sentence")
    with speaking(bundle, encrypted) as other:
        wait_for(lambda: other.told, "a sentence")
    assert "no encrypted connection can be made" in speaker.told[0]
    assert "a port without TLS needs mqtt://" in speaker.told[0]
    assert "a TLS port needs mqtts://" in other.told[0]


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Broker]:
    """A broker that lets in ada with the password "right" alone."""
    if shutil.which("mosquitto_passwd") is None:
        pytest.skip("needs mosquitto_passwd")
    words = ["mosquitto_passwd", "-b", "-c", "passwords", "ada", "right"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True, timeout=60)
    lines = ["allow_anonymous false", f"password_file {tmp_path / 'passwords'}"]
    with running(Broker(tmp_path, *lines)) as broker:
        yield broker


@pytest.mark.parametrize(
    ("user", "password", "who"),
    [("ada@", "wrong", "user 'ada'"), ("eve@", "right", "user 'eve'"), ("", None, "nobody by name")],
)
def test_a_wrong_password_is_said_and_the_session_goes_on(
    bundle: Bundle, guarded: Broker, user: str, password: str | None, who: str
) -> None:
    with speaking(bundle, guarded, user=user, password=password) as speaker:
        wait_for(lambda: speaker.told, "a sentence")
        speaker.speak(3)
        assert len(speaker.readings) == 3
    assert f"it refuses us: Not authorized (we are {who}; check user and password)" in speaker.told[0]
    assert len(speaker.told) == 1
    assert "wrong" not in repr(speaker.publisher)


def test_the_password_comes_from_the_environment_or_a_file(guarded: Broker, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("right\n", encoding="utf8")
    command = [*RUN, "--seconds", "2", "--mqtt", f"mqtt://ada@127.0.0.1:{guarded.port}/home/robot"]
    ways: list[tuple[list[str], dict[str, str]]] = [
        ([], {"EDGEEMO_MQTT_PASSWORD": "right"}),
        (["--mqtt-password-file", str(tmp_path / "secret")], {"EDGEEMO_MQTT_PASSWORD": "wrong"}),
    ]
    with listening(guarded, "ada", "right") as listener:
        for words, variables in ways:
            before = len(listener.texts("home/robot/reading"))
            done = subprocess.run(
                [*command, *words],
                env={**os.environ, **variables},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            assert "MQTT" not in done.stderr
            arrived = partial(lambda before: len(listener.texts("home/robot/reading")) == before + 4, before)
            wait_for(arrived, "four readings")


def test_the_newest_state_of_a_publisher_is_in_its_repr(bundle: Bundle, broker: Broker) -> None:
    with speaking(bundle, broker) as speaker:
        assert speaker.publisher.wait_connected(30)
        assert repr(speaker.publisher) == f"<Publisher of 'home/robot' to 127.0.0.1:{broker.port}, connected>"
        speaker.publisher.close()
        speaker.publisher.close()
        speaker.speak(2)
        assert speaker.publisher.stats.readings == 0, "what comes after the end is not taken"


def test_a_password_over_an_unknown_plain_network_is_said(bundle: Bundle) -> None:
    speaker = Speaker(bundle, "mqtt://ada@broker.invalid/a", password=PASSWORD)
    try:
        wait_for(lambda: len(speaker.told) == 2, "two sentences")
    finally:
        speaker.close()
    assert speaker.told[0] == (
        "the password for broker.invalid:1883 goes over the network unencrypted; mqtts:// encrypts it"
    )
    assert speaker.told[1].startswith("no MQTT broker at broker.invalid:1883: its name is not known here")
