"""A real broker on a free port, and somebody who listens to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

PROGRAM = shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")
PATIENCE_S = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """Returns what the condition gives once it is true; fails where that never comes."""
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        if found := condition():
            return found
        time.sleep(0.01)
    raise AssertionError(f"never came: {what}")


class Broker:
    """Mosquitto; may be stopped, frozen and started again on the same port.

    Args:
        folder: for its configuration.
        settings: more lines of it; anybody may come unless they say otherwise.
    """

    def __init__(self, folder: Path, *settings: str) -> None:
        self.port = free_port()
        self.host = "localhost" if settings else "127.0.0.1"
        self._file = folder / f"mosquitto{self.port}.conf"
        anybody = () if any("allow_anonymous" in line for line in settings) else ("allow_anonymous true",)
        # Started by root it would become somebody else, who cannot read the files of a test.
        stay = ("user root",) if os.getuid() == 0 else ()
        lines = [*stay, f"listener {self.port} 127.0.0.1", *anybody, *settings]
        self._file.write_text("\n".join(lines) + "\n", encoding="utf8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if PROGRAM is None:
            pytest.skip("needs mosquitto")
        self._process = subprocess.Popen(
            [PROGRAM, "-c", str(self._file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_for(self._listens, f"mosquitto on port {self.port}")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def freeze(self) -> None:
        """It keeps its connections and answers nobody any more."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def running(broker: Broker) -> Iterator[Broker]:
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@contextmanager
def passed_on(port: int, *, to: int) -> Iterator[None]:
    """Passes on to another port here what connects to one: a way that is open for as long as a test wants."""
    open_sockets = [socket.create_server(("127.0.0.1", port))]

    def copy(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                here, _ = open_sockets[0].accept()
                there = socket.create_connection(("127.0.0.1", to))
                open_sockets.extend((here, there))
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=copy, args=pair, daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield
    finally:
        for sock in open_sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        accepting.join(PATIENCE_S)
        for sock in open_sockets:
            sock.close()


class Listener:
    """Hears everything, and may say something.

    Args:
        port: of the broker on this machine, without encryption.
        user, password: where it wants them.
    """

    def __init__(self, port: int, user: str = "", password: str = "") -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self._lock = threading.Lock()
        self._heard: list[tuple[str, str, bool]] = []
        ready = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        if user:
            self._client.username_pw_set(user, password)
        self._client.on_message = self._hear
        self._client.on_connect = lambda client, *_: client.subscribe([("#", 1), ("$SYS/none", 0)])
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        assert ready.wait(PATIENCE_S)

    def _hear(self, client: object, data: object, message: Any) -> None:
        with self._lock:
            self._heard.append((message.topic, message.payload.decode("utf8"), message.retain))

    def texts(self, topic: str) -> list[str]:
        with self._lock:
            return [text for heard, text, _ in self._heard if heard == topic]

    def data(self, topic: str) -> list[Any]:
        return [json.loads(text) for text in self.texts(topic)]

    def retained(self) -> dict[str, str]:
        with self._lock:
            return {topic: text for topic, text, retained in self._heard if retained}

    def wait_for(self, topic: str, text: str) -> None:
        wait_for(lambda: text in self.texts(topic), f"{text!r} on {topic}, there is {self.texts(topic)}")

    def say(self, topic: str, text: str, *, retained: bool = False) -> None:
        self._client.publish(topic, text, qos=1, retain=retained).wait_for_publish(PATIENCE_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextmanager
def listening(broker: Broker, user: str = "", password: str = "") -> Iterator[Listener]:
    listener = Listener(broker.port, user, password)
    try:
        yield listener
    finally:
        listener.close()
