"""A real microphone path: PortAudio records what is played into a PulseAudio server of the test's own."""

from __future__ import annotations

import itertools
import os
import queue
import shutil
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgeemo.errors import MissingDependencyError, SensorError
from edgeemo.sensors import Chunk, Microphone, Patience
from edgeemo.sensors import microphone as module
from edgeemo.sensors.audio_blocks import AudioBlocks, SteadyTimes
from edgeemo.sensors.portaudio import InputStream, input_devices

TONE_HZ, PLAYED_HZ = 1000, 48000
SINK = ["module-null-sink", "sink_name=room", f"rate={PLAYED_HZ}", "channels=2"]
PATIENT = Patience(deadline_s=1.0, reopen_s=3.0, open_s=20.0, first_wait_s=0.1, most_wait_s=0.5)


class SoundServer:
    """PulseAudio with one sink, ``room``, whose monitor is the microphone; killed and started at will."""

    def __init__(self, folder: Path) -> None:
        (folder / "run").mkdir(mode=0o700)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"unix:{folder}/run/native"
        self.environment = {
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": f"{folder}/run",
            "PULSE_RUNTIME_PATH": f"{folder}/run/pulse",
            "PULSE_STATE_PATH": f"{folder}/state",
            "PULSE_SERVER": self.address,
            "PULSE_SOURCE": "room.monitor",
            "PULSE_SINK": "room",
        }

    def start(self, *, with_sink: bool = True) -> None:
        modules = [f"module-native-protocol-unix auth-anonymous=1 socket={self._folder}/run/native"]
        if with_sink:
            modules.append(" ".join(SINK))
        options = ["-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes"]
        self._process = subprocess.Popen(
            ["pulseaudio", *options, "--log-level=0", *itertools.chain(*(("-L", m) for m in modules))],
            env={**os.environ, **self.environment},
            stderr=subprocess.DEVNULL,
        )
        for _ in range(200):
            asked = subprocess.run(
                ["pactl", "info"], env={**os.environ, **self.environment}, capture_output=True, check=False
            )
            if asked.returncode == 0:
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        self.kill()
        pytest.skip("needs a PulseAudio server, which does not start here")

    def plug_in(self) -> None:
        """Adds the sink, and so the microphone, to a server that runs without."""
        subprocess.run(
            ["pactl", "load-module", *SINK],
            env={**os.environ, **self.environment},
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        if self._process:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def play(self, file: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["paplay", str(file)], env={**os.environ, **self.environment}, stderr=subprocess.DEVNULL
        )


@pytest.fixture
def sound_server(
    portaudio: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SoundServer]:
    """A running server that PortAudio of this process sees as its microphone."""
    if not all(map(shutil.which, ("pulseaudio", "pactl", "paplay"))):
        pytest.skip("needs pulseaudio and pulseaudio-utils")
    import sounddevice

    server = SoundServer(tmp_path_factory.mktemp("pa"))  # short: a socket's path has at most 107 bytes
    server.start()
    for name in ("PULSE_SERVER", "PULSE_SOURCE", "PULSE_SINK"):
        monkeypatch.setenv(name, server.environment[name])
    # PortAudio lists its devices once; the server was not there when another test loaded it.
    sounddevice._terminate()
    sounddevice._initialize()
    try:
        if not any("pulse" in device["name"] for device in input_devices(sounddevice)):
            pytest.skip("needs ALSA's PulseAudio plug-in (libasound2-plugins)")
        yield server
    finally:
        server.kill()
        sounddevice._terminate()
        sounddevice._initialize()


def write_tone(path: Path, *, seconds: float) -> Path:
    times = np.arange(round(seconds * PLAYED_HZ)) / PLAYED_HZ
    samples = (0.5 * 32767 * np.sin(2 * np.pi * TONE_HZ * times)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(PLAYED_HZ)
        file.writeframes(samples.tobytes())
    return path


def wait_for(condition: Callable[[], bool], what: str) -> None:
    for _ in range(1500):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail(f"still not so after 30 s: {what}")


def record(microphone: Microphone, *, seconds: float) -> list[Chunk]:
    chunks: list[Chunk] = []

    def enough() -> bool:
        chunks.extend(microphone.poll(0.05))
        return sum(chunk.duration_s for chunk in chunks) >= seconds

    wait_for(enough, f"{seconds} s of sound; {microphone.status}")
    return chunks


def loudest_hz(chunks: list[Chunk]) -> tuple[float, float]:
    """The frequency with the most energy and the level (rms) of the last 0.3 s."""
    rate_hz = chunks[0].rate_hz or 0
    samples = np.concatenate([chunk.array for chunk in chunks])[-round(0.3 * rate_hz) :]
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * rate_hz / len(samples)), float(np.sqrt(np.mean(samples**2)))


def test_the_microphone_hears_what_is_played_and_survives_the_death_of_its_server(
    sound_server: SoundServer, tmp_path: Path
) -> None:
    file = write_tone(tmp_path / "tone.wav", seconds=30.0)
    player = sound_server.play(file)
    start_s = time.monotonic()
    try:
        with Microphone("pulse", patience=PATIENT) as microphone:
            microphone.start(lambda: time.monotonic() - start_s)
            chunks = record(microphone, seconds=1.0)
            assert {(c.modality, c.array.dtype, c.array.ndim) for c in chunks} == {
                ("audio", np.dtype("float32"), 1)
            }
            hz, level = loudest_hz(chunks)
            assert hz == pytest.approx(TONE_HZ, abs=5)
            assert level == pytest.approx(0.5 / np.sqrt(2), rel=0.05)
            times = [chunk.time_s for chunk in chunks]
            assert times == sorted(set(times))
            assert 0 <= times[0] <= times[-1] <= time.monotonic() - start_s
            wait_for(lambda: bool(microphone.poll()) and microphone.status.state == "running", "it runs")

            sound_server.kill()
            wait_for(lambda: microphone.status.state == "lost", "the death is noticed")
            microphone.poll()
            sound_server.start()
            player.wait()
            player = sound_server.play(file)
            chunks = record(microphone, seconds=1.5)
            assert loudest_hz(chunks)[0] == pytest.approx(TONE_HZ, abs=5)
            assert chunks[0].time_s > times[-1]
            wait_for(
                lambda: bool(microphone.poll()) and microphone.status.state == "running", "it runs again"
            )
            assert microphone.status.reconnects >= 1
    finally:
        player.kill()
        player.wait()


def test_a_microphone_that_is_plugged_in_later_comes_in(
    sound_server: SoundServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound_server.kill()
    sound_server.start(with_sink=False)
    config = tmp_path / "asound.conf"  # the system's default microphone, as a desktop sets it
    config.write_text("pcm.!default { type pulse }\n")
    monkeypatch.setenv("ALSA_CONFIG_PATH", f"/usr/share/alsa/alsa.conf:{config}")
    with Microphone(patience=PATIENT) as microphone:
        microphone.start(time.monotonic)
        wait_for(lambda: "cannot be opened" in microphone.status.why, "the first attempt is over")
        for _ in range(50):
            assert microphone.poll(0.02) == []
        assert microphone.status.state in ("absent", "lost")
        assert microphone.status.last_data_s is None
        sound_server.plug_in()
        player = sound_server.play(write_tone(tmp_path / "tone.wav", seconds=30.0))
        try:
            assert loudest_hz(record(microphone, seconds=1.5))[0] == pytest.approx(TONE_HZ, abs=5)
        finally:
            player.kill()
            player.wait()
        assert (microphone.status.state, microphone.status.reconnects) == ("running", 0)


def test_a_device_that_portaudio_of_this_process_does_not_know_is_found(
    sound_server: SoundServer, tmp_path: Path
) -> None:
    import sounddevice

    sound_server.kill()
    sounddevice._terminate()
    sounddevice._initialize()  # and freezes its list without the device
    with Microphone("pulse", patience=PATIENT, required=False) as microphone:
        microphone.start(time.monotonic)
        wait_for(lambda: microphone.status.state == "absent", "the absence is told")
        assert microphone.status.why.startswith("there is no microphone pulse; ")
        sound_server.start()
        player = sound_server.play(write_tone(tmp_path / "tone.wav", seconds=30.0))
        try:
            assert loudest_hz(record(microphone, seconds=1.5))[0] == pytest.approx(TONE_HZ, abs=5)
        finally:
            player.kill()
            player.wait()
        assert not any("pulse" in device["name"] for device in input_devices(sounddevice))


@pytest.mark.parametrize("isolate", [True, False], ids=["process", "thread"])
def test_another_rate_can_be_asked_for_and_losses_are_counted(
    sound_server: SoundServer, isolate: bool
) -> None:
    with Microphone("pulse", rate_hz=16000, buffer_s=0.1, patience=PATIENT, isolate=isolate) as microphone:
        microphone.start(time.monotonic)
        assert {chunk.rate_hz for chunk in record(microphone, seconds=0.2)} == {16000}
        wait_for(lambda: microphone.status.drops > 2, "the buffer overflows")
        assert microphone.status.declared_rate == 16000
        assert len(microphone.poll()) <= 2


def test_a_microphone_that_does_not_exist_is_refused_by_name(portaudio: None) -> None:
    for wanted in ("no such microphone", 4711):
        with pytest.raises(
            SensorError, match=rf"there is no microphone {wanted}; (there are: \d+ \(|PortAudio sees)"
        ):
            Microphone(wanted).start(time.monotonic)


def test_a_microphone_that_may_come_later_is_waited_for(portaudio: None) -> None:
    with Microphone("no such microphone", required=False) as microphone:
        microphone.start(time.monotonic)
        wait_for(lambda: microphone.status.state == "absent", "the absence is told")
        assert microphone.status.why.startswith("there is no microphone no such microphone; ")


def test_without_any_microphone_the_default_one_is_absent(
    portaudio: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "input_devices", lambda sounddevice: [])
    with Microphone(isolate=False) as microphone:
        microphone.start(time.monotonic)
        wait_for(lambda: microphone.status.state == "absent", "the absence is told")
        assert microphone.status.why == "there is no default microphone; PortAudio sees no input at all"
        assert microphone.poll() == []


def test_a_missing_library_is_absent_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with Microphone(isolate=False) as microphone:
        microphone.start(time.monotonic)
        wait_for(lambda: microphone.status.state == "absent", "the absence is told")
        assert microphone.status.why.endswith("Install it with: pip install 'edgeemo[mic]'")
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgeemo\[mic\]'"):
        Microphone("USB").start(time.monotonic)


def test_a_number_keeps_meaning_the_device_that_it_meant_first() -> None:
    before = [{"index": 1, "name": "USB"}, {"index": 2, "name": "HDMI"}]
    after = [{"index": 1, "name": "Webcam"}, {"index": 2, "name": "USB"}, {"index": 3, "name": "HDMI"}]
    assert module._match(before, 1, "USB") == before[0]
    assert module._match(after, 1, "USB") == after[1]
    assert module._match(after[:1], 1, "USB") is None
    microphone = Microphone(1)
    microphone.note({"name": "USB"})
    again = module.microphone_from_options(**microphone.recipe().options)
    assert (again._device, again._known_as, again.name) == (1, "USB", "microphone 1")


def test_devices_are_found_by_number_name_and_part_of_it() -> None:
    found = [
        {"index": 0, "name": "HDA Intel: ALC (hw:0,0)", "api": "ALSA", "default": False},
        {"index": 3, "name": "USB Audio Device", "api": "ALSA", "default": False},
        {"index": 4, "name": "usb", "api": "JACK", "default": True},
    ]
    expected = {None: 4, 3: 3, 1: None, "USB": 4, "usb audio": 3, "intel": 0, "jack": 4, "none": None}
    for wanted, index in expected.items():
        match = module._match(found, wanted)
        assert (match and match["index"]) == index, wanted


def test_the_callback_counts_overflows_and_full_queues() -> None:
    stream = InputStream.__new__(InputStream)
    losses: list[tuple[int, int]] = []
    stream._count_losses = lambda drops, overflows: losses.append((drops, overflows))
    stream._clock, stream.rate_hz, stream._lost, stream._counted = (lambda: 10.0), 1000, 0, 0
    stream._blocks, stream._times = queue.Queue(maxsize=2), SteadyTimes(1000)
    block = np.ones((50, 2), np.float32)
    for overflow in (False, True, False, False):
        times = SimpleNamespace(currentTime=5.0, inputBufferAdcTime=4.9)
        stream._take(block, 50, times, SimpleNamespace(input_overflow=overflow))
    block[:] = 0  # the driver uses its buffer again
    first = stream.read()
    assert isinstance(first, Chunk)
    assert first.time_s == pytest.approx(9.9)
    assert first.array.tolist() == [1.0] * 50
    assert isinstance(stream.read(), Chunk)
    assert losses == [(2, 0), (0, 1)]


@pytest.mark.parametrize("speed", [0.9998, 1.0, 1.0002], ids=["slow", "exact", "fast"])
def test_late_arrivals_do_not_move_the_times_but_a_gap_does(speed: float) -> None:
    random = np.random.default_rng(0)
    steady, worst, last = SteadyTimes(16000), 0.0, -1.0
    for block in range(4000):  # 200 s of a card that drifts, each block up to 30 ms late
        true_s = block * 0.05 / speed
        time_s = steady.stamp(true_s + random.uniform(0, 0.03) + (0.25 if block % 500 == 499 else 0), 800)
        assert time_s > last
        last = time_s
        if block > 100:
            worst = max(worst, abs(time_s - true_s))
    assert worst < 0.012
    after_gap_s = last + 5.0
    assert steady.stamp(after_gap_s, 800, lost=True) == pytest.approx(after_gap_s, abs=0.03)


def test_a_gap_without_a_flag_is_believed_when_it_lasts() -> None:
    steady = SteadyTimes(16000, memory=10)
    for block in range(20):
        steady.stamp(block * 0.05, 800)
    after = [steady.stamp(1.0 + 3.0 + block * 0.05, 800) for block in range(20)]
    assert after[0] == pytest.approx(1.0, abs=0.1)
    assert after[-1] == pytest.approx(4.0 + 19 * 0.05, abs=0.01)
    assert after == sorted(after)


def test_blocks_take_gaps_and_refuse_to_go_back() -> None:
    blocks = AudioBlocks(0.1)
    second = np.arange(1000, dtype=np.float32)
    chunks = [
        *blocks.add(0.0, second[:250], 1000),
        *blocks.add(0.251, second[250:400], 1000),  # a stamp rounded to the millisecond
        *blocks.add(0.1, second[400:450], 1000),  # a stamp that goes back
        *blocks.add(2.0, second[450:500], 1000),  # a gap
        *blocks.add(None, second[500:600], 1000),  # no stamp
        *blocks.flush(),
    ]
    assert [round(chunk.time_s, 6) for chunk in chunks] == [0, 0.1, 0.2, 0.3, 0.4, 2.0, 2.1]
    assert [len(chunk.array) for chunk in chunks] == [100, 100, 100, 100, 50, 100, 50]
    np.testing.assert_array_equal(np.concatenate([chunk.array for chunk in chunks]), second[:600])
