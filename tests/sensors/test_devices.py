from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgeemo.cli.commands import devices as command
from edgeemo.cli.main import COMMANDS
from edgeemo.cli.parser import CommandParser
from edgeemo.errors import EdgeEmoError, MissingDependencyError
from edgeemo.sensors import Device, DeviceGroup, MediaFile, list_devices
from edgeemo.sensors.connections.python import child_command
from edgeemo.sensors.listing import devices as module
from edgeemo.sensors.listing.video_nodes import VideoNode

KINDS = ["microphones", "cameras", "media files", "text", "test patterns"]


def run_command(*words: str) -> int:
    parser = CommandParser()
    command.add_parser(parser.add_commands(COMMANDS))
    return command.run(parser.parse_args(["devices", *words]))


def group(kind: str) -> DeviceGroup:
    return next(found for found in list_devices() if found.kind == kind)


def test_every_kind_is_listed_with_a_sentence() -> None:
    groups = list_devices()
    assert [found.kind for found in groups] == KINDS
    assert all(found.why for found in groups)
    for found in groups:
        assert found.works or found.install or not found.devices
        assert sum(device.default for device in found.devices) <= 1


def test_json_is_one_document_with_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert list(answer) == KINDS
    assert set(answer["cameras"]) == {"kind", "works", "why", "install", "devices"}


def test_the_list_for_people_marks_the_default_and_says_how_to_get_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    microphones = (
        Device("0", "Built-in", "ALSA, 2 channels, 48000 Hz", False),
        Device("11", "USB", "ALSA", True),
    )
    groups = [
        DeviceGroup("microphones", True, "2 found", None, microphones),
        DeviceGroup("cameras", False, "OpenCV is not installed", "pip install 'edgeemo[camera]'"),
    ]
    monkeypatch.setattr(command, "list_devices", lambda: groups)
    assert run_command() == 0
    assert capsys.readouterr().out.splitlines() == [
        "microphones: 2 found",
        "     0  Built-in (ALSA, 2 channels, 48000 Hz)",
        "  * 11  USB (ALSA)",
        "cameras: OpenCV is not installed",
        "    install it with: pip install 'edgeemo[camera]'",
    ]


def test_cameras_are_named_by_their_stable_path(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [VideoNode(2, "Cam A", "/dev/v4l/by-id/usb-A"), VideoNode(4, "Cam B")]
    monkeypatch.setattr(module, "list_video_nodes", lambda: nodes)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setitem(sys.modules, "cv2", None)
    cameras = group("cameras")
    assert cameras.devices == (
        Device("2", "Cam A", "/dev/v4l/by-id/usb-A", True),
        Device("4", "Cam B", "/dev/video4", False),
    )
    assert (cameras.works, cameras.install) == (False, "pip install 'edgeemo[camera]'")
    assert cameras.why == "OpenCV is not installed; 2 found"


def test_missing_libraries_are_told_with_their_commands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    media = group("media files")
    assert (media.works, media.why, media.install) == (
        False,
        "PyAV is not installed",
        "pip install 'edgeemo[media]'",
    )
    with pytest.raises(MissingDependencyError, match=r"pip install 'edgeemo\[media\]'"):
        MediaFile(tmp_path / "clip.mp4")


def test_microphones_are_asked_of_a_fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(stdout: str, code: int = 0, stderr: str = "") -> None:
        done = subprocess.CompletedProcess([], code, stdout, stderr)
        monkeypatch.setattr(subprocess, "run", lambda *args, **options: done)

    device = {
        "index": 3,
        "name": "USB",
        "api": "ALSA",
        "max_input_channels": 1,
        "default_samplerate": 16000.0,
    }
    answer("a library's chatter\n" + json.dumps({"found": [{**device, "default": True}]}))
    assert group("microphones").devices == (Device("3", "USB", "ALSA, 1 channels, 16000 Hz", True),)
    answer(json.dumps({"missing": ["the microphone", "the PortAudio library", "get it"]}))
    assert group("microphones") == DeviceGroup(
        "microphones", False, "the PortAudio library is not installed", "get it"
    )
    answer(json.dumps({"failed": "PortAudio cannot list the microphones: busy"}))
    assert group("microphones").why == "PortAudio cannot list the microphones: busy"
    answer("", -11, "ALSA lib says a lot\nSegmentation fault")
    assert "exit -11, Segmentation fault" in group("microphones").why

    def hang(*args: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("python", 20.0)

    monkeypatch.setattr(subprocess, "run", hang)
    assert group("microphones").why == "microphones could not be listed: no answer within 20 s"


def test_the_fresh_process_answers_in_one_line_of_json() -> None:
    asked = subprocess.run(
        child_command("edgeemo.sensors.listing.ask"),
        input="microphones",
        capture_output=True,
        check=True,
        text=True,
    )
    answer = json.loads(asked.stdout.splitlines()[-1])
    assert set(answer) <= {"found", "missing", "failed"}
    assert len(answer) == 1


def test_what_the_fresh_process_does_not_know_is_told() -> None:
    with pytest.raises(
        EdgeEmoError, match="unknown kind of device 'smells'; there are: microphones, cameras"
    ):
        module._ask_child("smells")
