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
    assert names(sensors_from_options(args, None)) == expected


def test_a_recording_is_live_only_at_its_own_pace() -> None:
    with MediaFile(RECORDING) as media:
        assert sensors_from_options(parse("--media", "x"), media) == []
        sensors = sensors_from_options(parse("--media", "x", "--pace", "real"), media)
        assert [sensor.modality for sensor in sensors] == ["audio", "video", "text"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("--drop video@1-2", "give one with --media"),
        ("--drop video@1-2 --media x --pace real", "at the fast pace"),
        ("--media x --mic 1", "leave --mic, --camera, --text and --sensor away"),
        ("--media x --sensor stdin", "leave --mic, --camera, --text and --sensor away"),
        ("--pace real", "give one with --media"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(words: str, why: str) -> None:
    assert why in misuse_of_sensor_options(parse(*words.split()))


def test_what_is_not_there_is_refused_unless_it_is_waited_for() -> None:
    words = ("--mic", "none", "--camera", "/dev/v4l/by-id/no-such-camera")
    (camera,) = sensors_from_options(parse(*words), None)
    with pytest.raises(SensorError, match="there is no camera /dev/v4l/by-id/no-such-camera"):
        camera.start(lambda: 0.0)
    (camera,) = sensors_from_options(parse(*words, "--wait-for-sensors"), None)
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
