"""Encrypted connections, passwords, and what is said where they are wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from live_like import write_live_like
from mosquitto import Broker, listening, running, wait_for
from mqtt_speaker import RUN, Speaker, speaking

from edgeemo.bundle import Bundle
from edgeemo.mqtt import Tls

pytest.importorskip("paho.mqtt", reason="needs paho-mqtt")

PASSWORD = "right"  # noqa: S105 - of a user of a test


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_live_like(tmp_path_factory.mktemp("mqtt") / "bundle")


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
