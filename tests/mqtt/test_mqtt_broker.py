"""Readings, states and commands through a real broker."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import pytest
from live_like import write_live_like
from mosquitto import Broker, listening, wait_for
from mqtt_speaker import EAGER, RUN, speaking

from edgeemo.bundle import Bundle
from edgeemo.mqtt import Publisher, Topics
from edgeemo.sensors import TextQueue
from edgeemo.session import Session, State

pytest.importorskip("paho.mqtt", reason="needs paho-mqtt")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_live_like(tmp_path_factory.mktemp("mqtt") / "bundle")


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


def test_the_newest_state_of_a_publisher_is_in_its_repr(bundle: Bundle, broker: Broker) -> None:
    with speaking(bundle, broker) as speaker:
        assert speaker.publisher.wait_connected(30)
        assert repr(speaker.publisher) == f"<Publisher of 'home/robot' to 127.0.0.1:{broker.port}, connected>"
        speaker.publisher.close()
        speaker.publisher.close()
        speaker.speak(2)
        assert speaker.publisher.stats.readings == 0, "what comes after the end is not taken"
