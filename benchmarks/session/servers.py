"""A camera and a microphone to measure with: an MJPEG stream over HTTP and a PulseAudio sink that plays."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.swap.scene import read_scene

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT, FPS = 640, 480, 10
SOUND_RATE_HZ = 48000
SCENES = ("recording", "pattern")
_PLAYED_S = 240.0
_START_S = 20.0


@contextmanager
def camera(scene: str) -> Iterator[str]:
    """Runs the MJPEG server in a process of its own and yields its address.

    Args:
        scene: of `SCENES`.
    """
    words = [sys.executable, "-m", "benchmarks.session.servers", scene]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield next(iter(server.stdout or ())).strip()
        finally:
            server.kill()


def why_no_microphone() -> str:
    """Returns what is missing for `microphone`; empty where nothing is."""
    missing = [name for name in ("pulseaudio", "pactl", "paplay") if shutil.which(name) is None]
    return f"no {', '.join(missing)} on this machine" if missing else ""


@contextmanager
def microphone() -> Iterator[dict[str, str]]:
    """Runs a sound server whose only source plays the scene's voice; yields the environment that finds it.

    The device's name for PortAudio is then ``pulse``.
    """
    with tempfile.TemporaryDirectory(prefix="pa") as name:  # short: a socket's path has at most 107 bytes
        folder = Path(name)
        (folder / "run").mkdir(mode=0o700)
        address = f"unix:{folder}/run/native"
        own = {
            "HOME": name,
            "XDG_RUNTIME_DIR": f"{folder}/run",
            "PULSE_RUNTIME_PATH": f"{folder}/run/pulse",
            "PULSE_STATE_PATH": f"{folder}/state",
            "PULSE_SERVER": address,
            "PULSE_SOURCE": "room.monitor",
            "PULSE_SINK": "room",
        }
        environment = {**os.environ, **own}
        modules = (
            f"module-native-protocol-unix auth-anonymous=1 socket={folder}/run/native",
            f"module-null-sink sink_name=room rate={SOUND_RATE_HZ} channels=2",
        )
        options = ["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes"]
        loads = itertools.chain(*(("-L", module) for module in modules))
        voice = _write_voice(folder / "voice.wav")
        with subprocess.Popen(
            ["pulseaudio", *options, "--log-level=0", *loads], env=environment, stderr=subprocess.DEVNULL
        ) as server:
            try:
                _wait_for_sound(server, environment)
                with subprocess.Popen(["paplay", str(voice)], env=environment) as player:
                    try:
                        yield {key: own[key] for key in ("PULSE_SERVER", "PULSE_SOURCE", "PULSE_SINK")}
                    finally:
                        player.kill()
            finally:
                server.kill()


def _wait_for_sound(server: subprocess.Popen[bytes], environment: dict[str, str]) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and server.poll() is None:
        asked = subprocess.run(["pactl", "info"], env=environment, capture_output=True, check=False)
        if asked.returncode == 0:
            return
        time.sleep(0.05)
    raise SystemExit("the PulseAudio server for the microphone does not start")


def _write_voice(path: Path) -> Path:
    scene = read_scene()
    samples = np.rint(scene.sound * 32767).astype("<i2").tobytes()
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(scene.rate_hz)
        for _ in range(round(_PLAYED_S * scene.rate_hz / len(scene.sound))):
            file.writeframes(samples)
    return path


def frames_of(scene: str) -> list[NDArray[np.uint8]]:
    """Returns pictures (HEIGHT, WIDTH, 3) that are shown one after the other, in a circle.

    Args:
        scene: ``"recording"`` has a face in every picture, ``"pattern"`` moving bars and no face.
    """
    import cv2

    if scene == "recording":
        shown = read_scene().frames
        turn = [*shown, *shown[-2:0:-1]]  # to the end and back
        return [cv2.resize(frame, (WIDTH, HEIGHT)) for frame in turn]
    bars = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for number in range(8):
        colour = [255 * (number >> bit & 1) for bit in range(3)]
        bars[:, number * WIDTH // 8 : (number + 1) * WIDTH // 8] = colour
    return [np.roll(bars, step * 8, axis=1) for step in range(WIDTH // 8)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, scene: str) -> None:
        import cv2

        super().__init__(("127.0.0.1", 0), _Handler)
        self.pictures = [cv2.imencode(".jpg", frame)[1].tobytes() for frame in frames_of(scene)]


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        begun = time.monotonic()
        try:
            for number, picture in enumerate(itertools.cycle(self.server.pictures)):
                time.sleep(max(0.0, begun + number / FPS - time.monotonic()))
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                self.wfile.write(head.encode() + picture + b"\r\n")
        except OSError:
            return  # the camera hung up

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base class
        pass


if __name__ == "__main__":
    with _Server(sys.argv[1]) as served:
        print(f"http://127.0.0.1:{served.server_address[1]}/camera.mjpg", flush=True)
        served.serve_forever()
