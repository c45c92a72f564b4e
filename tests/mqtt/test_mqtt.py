"""What is published over MQTT, without a broker: addresses, what waits, what Home Assistant is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from live_like import write_live_like

from edgeemo.bundle import Manifest
from edgeemo.errors import InputError
from edgeemo.mqtt import BrokerAddress, Publisher, Tls, Topics, address_from_url
from edgeemo.mqtt.discovery import discovery_from_manifest
from edgeemo.mqtt.messages import (
    Message,
    json_text,
    modality_json,
    silent_reading,
    state_from_reading,
    words_of_state,
)
from edgeemo.mqtt.outbox import KEPT_EVENTS, KEPT_READINGS, READING_LASTS_S, Outbox
from edgeemo.session import Reading, Session, State, Status
from edgeemo.shipped import RECORDING

READING = Reading(
    time_s=1.5,
    label="happy",
    confidence=0.875,
    probabilities={"happy": 0.875, "sad": 0.125},
    emotion="happy",
    mood="sad",
    valence=0.5,
    arousal=-0.25,
    subset="audio+video",
    engine="audio+video.int8",
    states={"audio": Status(State.LIVE, "", 0.5), "video": Status(State.MUTED, "it was muted", 1.0)},
)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtt://host/robot", BrokerAddress("host", 1883, "robot")),
        ("mqtts://ada@host.net/a/b/", BrokerAddress("host.net", 8883, "a/b", "ada", encrypted=True)),
        ("mqtt://10.0.0.1:1884/home/K%C3%BCche", BrokerAddress("10.0.0.1", 1884, "home/Küche")),
        ("mqtts://a%40b@[::1]:9/x", BrokerAddress("::1", 9, "x", "a@b", encrypted=True)),
    ],
)
def test_addresses(url: str, address: BrokerAddress) -> None:
    assert address_from_url(url) == address


def test_without_a_topic_it_is_named_after_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "kitchen")
    assert address_from_url("mqtt://host").topic == "edgeemo/kitchen"
    assert str(address_from_url("mqtt://[::1]")) == "[::1]:1883"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://host/topic", "none of mqtt://, mqtts://"),
        ("host/topic", "none of mqtt://, mqtts://"),
        ("mqtt:///topic", "names no host"),
        ("mqtt://host:0/topic", "port 0"),
        ("mqtt://host:70000/topic", "Port out of range"),
        ("mqtt://host:x/topic", "is no MQTT address"),
        ("mqtt://host/a//b", "words between its slashes"),
        ("mqtt://host/a/+", "neither [+] nor #"),
        ("mqtt://host/a/%23", "neither [+] nor #"),
        ("mqtt://host/a#b", "belongs into an MQTT address"),
        ("mqtt://host/a#", "belongs into an MQTT address"),
        ("mqtt://host/a?b", "belongs into an MQTT address"),
        ("mqtt://host/$SYS", "does not start with"),
        ("mqtt://host/a%0Ab", "nor control characters"),
        ("mqtt://host/a%C2%85b", "nor control characters"),
        ("mqtt://host/" + "x" * 1025, "at most 1024 bytes"),
    ],
)
def test_addresses_that_cannot_be_used(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        address_from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://ada:secret@host/topic",
        "mqtt://ada:secret@host:99999999/t",
        "mqtt//ada:secret@host/topic",
        "ada:secret@host/topic",
        "mqtt:ada:secret@host/topic",
    ],
)
def test_a_password_in_an_address_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InputError) as caught:
        address_from_url(url)
    assert "secret" not in str(caught.value)


def test_names_that_are_no_text_can_be_sent() -> None:
    assert json_text({"why": "the file \udcff.wav is away"}) == '{"why":"the file ?.wav is away"}'


def test_the_state_is_the_reading_in_short() -> None:
    assert state_from_reading(READING) == {
        "signal": True,
        "time_s": 1.5,
        "label": "happy",
        "emotion": "happy",
        "mood": "sad",
        "confidence": 0.875,
        "valence": 0.5,
        "arousal": -0.25,
        "subset": "audio+video",
        "engine": "audio+video.int8",
    }
    assert modality_json(READING.states["video"]) == {
        "state": "muted",
        "why": "it was muted",
        "since_s": 1.0,
    }


def test_the_end_says_nothing_stale() -> None:
    ended = silent_reading(["audio", "video"], time_s=9.0, why="the session has ended")
    state = state_from_reading(ended)
    assert state["signal"] is False
    assert state["label"] == "no signal"
    assert state["confidence"] == 0
    assert [state[key] for key in ("emotion", "mood", "valence", "arousal", "subset", "engine")] == [None] * 6
    assert {status.state for status in ended.states.values()} == {State.ABSENT}


def test_numbers_alone_are_no_news() -> None:
    state = state_from_reading(READING)
    assert words_of_state(state | {"confidence": 0.1, "valence": 0.9, "time_s": 7}) == words_of_state(state)
    for word in ("signal", "label", "emotion", "mood", "subset", "engine"):
        assert words_of_state(state | {word: "other"}) != words_of_state(state)


def test_json_is_json() -> None:
    assert json_text({"a": "Küche"}) == '{"a":"Küche"}'
    with pytest.raises(ValueError, match="JSON"):
        json_text({"a": float("nan")})


class Hours:
    """A clock that is moved by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_an_hour_without_the_broker_costs_no_memory_and_ends_in_no_flood() -> None:
    clock = Hours()
    outbox = Outbox(clock=clock)
    outbox.keep(Message("availability", "online"))
    for number in range(7200):  # readings of an hour, and an event with each
        clock.now_s += 0.5
        outbox.put_reading(Message("reading", str(number)))
        outbox.put_event(Message("event", str(number), qos=1))
        outbox.keep(Message("state", str(number)))
    outbox.renew()
    waiting = []
    while (message := outbox.take(events=True)) is not None:
        waiting.append((message.topic, message.payload))
    fresh = round(READING_LASTS_S / 0.5) + 1
    assert waiting == [
        ("availability", "online"),
        ("state", "7199"),
        *(("event", str(number)) for number in range(7200 - KEPT_EVENTS, 7200)),
        *(("reading", str(number)) for number in range(7200 - fresh, 7200)),
    ]
    assert outbox.dropped_readings == 7200 - fresh
    assert outbox.dropped_events == 7200 - KEPT_EVENTS


def test_readings_that_come_all_at_once_are_bounded_too() -> None:
    outbox = Outbox(clock=lambda: 0.0)
    for number in range(KEPT_READINGS + 5):
        outbox.put_reading(Message("reading", str(number)))
    first = outbox.take(events=False)
    assert first is not None
    assert first.payload == "5"
    assert outbox.dropped_readings == 5


def test_events_that_may_not_have_arrived_are_sent_again_in_their_order() -> None:
    outbox = Outbox()
    for number in range(4):
        outbox.put_event(Message("event", str(number), qos=1))
    taken = [outbox.take(events=True) for _ in range(3)]
    assert not outbox.take(events=False), "no event is taken where none may be"
    assert taken[0]
    outbox.confirm(taken[0])
    outbox.give_back()
    again = [message.payload if (message := outbox.take(events=True)) else "" for _ in range(4)]
    assert again == ["1", "2", "3", ""]
    assert not outbox.wait_empty(0.0), "three are not confirmed"
    for payload in again:
        outbox.confirm(Message("event", payload, qos=1))
    assert outbox.wait_empty(0.0)


def test_events_given_back_to_a_full_box_are_counted() -> None:
    outbox = Outbox()
    for number in range(3):
        outbox.put_event(Message("event", str(number), qos=1))
        outbox.take(events=True)
    for number in range(3, 3 + KEPT_EVENTS - 1):
        outbox.put_event(Message("event", str(number), qos=1))
    outbox.give_back()
    assert outbox.dropped_events == 2
    first = outbox.take(events=True)
    assert first is not None
    assert first.payload == "2", "the oldest two went"


# Options of each kind of entity, from https://www.home-assistant.io/integrations/mqtt/ (device discovery),
# .../sensor.mqtt/, .../binary_sensor.mqtt/ and .../switch.mqtt/, read in November 2026.
SHARED = {
    "platform",
    "name",
    "unique_id",
    "state_topic",
    "value_template",
    "icon",
    "entity_category",
    "json_attributes_topic",
    "qos",
}
OPTIONS = {
    "sensor": SHARED | {"device_class", "options", "state_class", "unit_of_measurement", "expire_after"},
    "binary_sensor": SHARED | {"device_class", "payload_on", "payload_off", "expire_after"},
    "switch": SHARED | {"command_topic", "payload_on", "payload_off"},
}
DEVICE = {"identifiers", "name", "manufacturer", "model", "sw_version"}
SHARED_BY_ALL = {
    "device",
    "origin",
    "components",
    "availability_topic",
    "payload_available",
    "payload_not_available",
    "state_topic",
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_live_like(tmp_path_factory.mktemp("mqtt") / "bundle").manifest


def test_home_assistant_is_told_only_what_it_documents(manifest: Manifest) -> None:
    topics = Topics("home/robot")
    told = discovery_from_manifest(manifest, topics, name="robot", commands=True)
    assert json.loads(json_text(told)) == told
    assert set(told) == SHARED_BY_ALL
    assert set(told["device"]) <= DEVICE
    assert told["device"]["identifiers"]
    assert told["origin"]["name"] == "edgeemo"
    components = told["components"]
    sensors = {"emotion", "mood", "confidence", "valence", "arousal", "subset", "engine"}
    states = {f"state_{name}" for name in manifest.order}
    mutes = {f"mute_{name}" for name in manifest.order}
    assert set(components) == sensors | {"signal"} | states | mutes
    for key, component in components.items():
        assert set(component) <= OPTIONS[component["platform"]], key
        if component.get("device_class") == "enum":  # has options, and then neither class nor unit
            assert component["options"]
            assert not {"state_class", "unit_of_measurement"} & set(component)
        if component["platform"] == "switch":
            assert component["entity_category"] == "config"
            assert component["command_topic"] == topics.mute(key.removeprefix("mute_"))
        if component["platform"] == "sensor":  # sensors are never of the kind config
            assert component.get("entity_category", "diagnostic") == "diagnostic"
    unique = [component["unique_id"] for component in components.values()]
    assert len(set(unique)) == len(unique)


def test_nothing_can_be_switched_unless_it_was_allowed(manifest: Manifest) -> None:
    told = discovery_from_manifest(manifest, Topics("a"), name="a", commands=False)
    assert {c["platform"] for c in told["components"].values()} == {"sensor", "binary_sensor"}
    assert "command_topic" not in json_text(told)


def test_what_home_assistant_shows_of_our_messages(manifest: Manifest) -> None:
    jinja = pytest.importorskip("jinja2", reason="needs jinja2")
    told = discovery_from_manifest(manifest, Topics("a"), name="a", commands=True)

    def shown(key: str, message: dict[str, object]) -> str:
        """What Home Assistant makes of a message, whose templates are Jinja's."""
        template = told["components"][key]["value_template"]
        return str(jinja.Environment().from_string(template).render(value_json=message))

    state = state_from_reading(READING)
    ended = state_from_reading(silent_reading(["audio"], time_s=2.0, why="it was enough"))
    assert {key: shown(key, state) for key in ("emotion", "mood", "confidence", "valence", "arousal")} == {
        "emotion": "happy",
        "mood": "sad",
        "confidence": "87.5",
        "valence": "0.5",
        "arousal": "-0.25",
    }
    assert (shown("subset", state), shown("engine", state)) == ("audio+video", "audio+video.int8")
    assert (shown("signal", state), shown("signal", ended)) == ("ON", "OFF")
    assert shown("confidence", ended) == "0.0"
    for key in ("emotion", "mood", "valence", "arousal", "subset", "engine"):
        assert shown(key, ended) == "None", "which Home Assistant shows as unknown"
    muted, live = (modality_json(READING.states[name]) for name in ("video", "audio"))
    assert (shown("mute_video", muted), shown("mute_video", live)) == ("ON", "OFF")
    assert shown("state_video", muted) in told["components"]["state_video"]["options"]
    assert shown("emotion", state) in told["components"]["emotion"]["options"]


def test_names_for_programs_never_change() -> None:
    assert Topics("edgeemo/demo").device_id == "edgeemo_demo_52248881"
    assert Topics("Küche/1").device_id == "edgeemo_k_che_1_2628e0b9"
    assert Topics("edgeemo/demo").discovery("ha") == "ha/device/edgeemo_demo_52248881/config"
    assert Topics("a/b").device_id != Topics("a_b").device_id


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"ca": "nowhere.pem"}, "nowhere.pem cannot be read: No such file"),
        ({"ca": "text.pem"}, "holds no certificates in PEM form"),
        ({"key": "text.pem"}, "give that one too"),
        ({"certificate": "text.pem", "key": "text.pem"}, "are no certificate and its key"),
    ],
)
def test_files_for_tls_that_cannot_be_used(
    files: dict[str, str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.pem").write_text("no certificate\n", encoding="utf8")
    with pytest.raises(InputError, match=message):
        Tls(**files).context()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"password": "secret"}, "a password belongs to a user"),
        ({"tls": Tls("ca.pem")}, "write mqtts://"),
        ({"discovery": "a/#"}, "the prefix for discovery"),
    ],
)
def test_publishers_that_cannot_be_made(words: dict[str, Any], message: str, tmp_path: Path) -> None:
    bundle = write_live_like(tmp_path / "bundle")
    with Session(bundle) as session, pytest.raises(InputError, match=message):
        Publisher("mqtt://host/t", session, **words)


def edgeemo(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edgeemo", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--mqtt", "mqtt://ada:secret@host/t"), 1, "EDGEEMO_MQTT_PASSWORD"),
        (("--mqtt", "mqtt://host/t", "--mqtt-ca", "ca.pem"), 1, "write mqtts://"),
        (
            ("--mqtt", "mqtt://ada@host/t", "--mqtt-password-file", "no.txt"),
            1,
            "no.txt with the MQTT password",
        ),
        (("--mqtt-ca", "ca.pem"), 2, "--mqtt-ca belongs to --mqtt URL"),
        (("--mqtt-commands",), 2, "--mqtt-commands belongs to --mqtt URL"),
    ],
)
def test_mistakes_are_explained(words: tuple[str, ...], code: int, message: str) -> None:
    done = edgeemo("run", "--media", str(RECORDING), *words)
    assert done.returncode == code
    assert message in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_without_paho_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['paho'] = None\n"
        "from edgeemo.cli.main import main\n"
        f"sys.exit(main(['run', '--media', {str(RECORDING)!r}, '--mqtt', 'mqtt://127.0.0.1/t']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "pip install 'edgeemo[mqtt]'" in done.stderr


def test_paho_loads_when_a_broker_is_first_used() -> None:
    program = (
        "import sys, edgeemo.mqtt, edgeemo.cli.main; edgeemo.cli.main.build_parser();"
        "sys.exit('paho' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
