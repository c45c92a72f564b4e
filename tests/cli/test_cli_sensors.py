"""Which sensors `edgeemo run` listens to."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from edgeemo.cli import main as program
from edgeemo.cli.options.sensors import add_sensor_options, misuse_of_sensor_options, sensors_from_options
from edgeemo.errors import SensorError
from edgeemo.sensors import MediaFile, Sensor
from edgeemo.shipped import RECORDING

ALL = ("audio", "video", "text")


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_sensor_options(parser)
    parser.add_argument("--drop", action="append", default=[])
    return parser.parse_args(words)


def names(sensors: Sequence[Sensor]) -> list[str]:
    return [sensor.name for sensor in sensors]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", ["default microphone", "first camera"]),
        ("--mic 3 --camera none", ["microphone 3"]),
        (
            "--mic default --camera /dev/v4l/by-id/usb-B",
            ["default microphone", "camera /dev/v4l/by-id/usb-B"],
        ),
        (
            "--mic pattern --camera pattern --text stdin",
            ["sound pattern", "picture pattern", "standard input"],
        ),
        ("--sensor mic:pattern", ["sound pattern", "first camera"]),
        ("--sensor mic:pattern --sensor stdin --camera none", ["sound pattern", "standard input"]),
        ("--sensor mic:pattern --mic USB --camera none", ["sound pattern", "microphone USB"]),
    ],
)
def test_words_on_the_command_line_mean_sensors(words: str, expected: list[str]) -> None:
    args = parse(*words.split())
    assert misuse_of_sensor_options(args) == ""
    assert names(sensors_from_options(args, None, modalities=ALL)) == expected


def test_no_device_is_opened_that_the_model_does_not_listen_to() -> None:
    assert names(sensors_from_options(parse(), None, modalities=["video", "heart_rate"])) == ["first camera"]
    asked = sensors_from_options(parse("--mic", "default"), None, modalities=["heart_rate"])
    assert names(asked) == ["default microphone"]  # the session then says why not


def test_a_live_sensor_fails_as_rehearsed(capsys: pytest.CaptureFixture[str]) -> None:
    words = "run --mic none --camera pattern --drop video@1-60 --seconds 2 --json"
    assert program.main(words.split()) == 0
    video = json.loads(capsys.readouterr().out.splitlines()[-1])["states"]["video"]
    assert video["state"] == "lost"
    assert video["why"] == "taken away from 1 to 60 s, to rehearse a failure"


def test_what_fails_is_something_that_the_model_listens_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["run", "--media", str(RECORDING), "--drop", "smell@1-2"]) == 2
    assert "unknown modality 'smell'; there are: audio, video, text" in capsys.readouterr().err


def test_a_recording_is_live_only_at_its_own_pace() -> None:
    with MediaFile(RECORDING) as media:
        assert sensors_from_options(parse("--media", "x"), media, modalities=ALL) == []
        sensors = sensors_from_options(parse("--media", "x", "--pace", "real"), media, modalities=ALL)
        assert [sensor.modality for sensor in sensors] == ["audio", "video", "text"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--media x --mic 1", "leave --mic, --camera, --text and --sensor away"),
        ("--media x --sensor stdin", "leave --mic, --camera, --text and --sensor away"),
        ("--pace real", "give one with --media"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(words: str, why: str) -> None:
    assert why in misuse_of_sensor_options(parse(*words.split()))


def test_what_is_not_there_is_refused_unless_it_is_waited_for() -> None:
    words = ("--mic", "none", "--camera", "/dev/v4l/by-id/no-such-camera")
    (camera,) = sensors_from_options(parse(*words), None, modalities=ALL)
    with pytest.raises(SensorError, match="there is no camera /dev/v4l/by-id/no-such-camera"):
        camera.start(lambda: 0.0)
    (camera,) = sensors_from_options(parse(*words, "--wait-for-sensors"), None, modalities=ALL)
    camera.start(lambda: 0.0)
    camera.close()


def test_run_plays_a_recording_at_its_own_pace(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["--media", str(RECORDING), "--pace", "real", "--seconds", "3", "--json"]
    assert program.main(["run", *words]) == 0
    readings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(readings) == 6
    assert readings[-1]["subset"] == "audio+video+text"


def test_run_listens_to_test_patterns(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--mic", "pattern", "--camera", "pattern", "--seconds", "1", "--json"]
    assert program.main(["run", *words]) == 0
    readings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert readings[-1]["subset"] is None
    assert readings[-1]["states"]["video"]["state"] in ("quiet", "poor")
