"""Sensors of other packages, found by their entry points: a tiny package is laid out as installed for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeemo.cli import main as program
from edgeemo.clock import VirtualClock
from edgeemo.errors import SensorError
from edgeemo.sensors import (
    Camera,
    DeviceGroup,
    Microphone,
    PatternCamera,
    PatternMicrophone,
    StdinText,
    list_devices,
    registered_sensors,
    sensor_from_spec,
)

RADAR = """
from edgeemo.errors import MissingDependencyError
from edgeemo.sensors import Device, PatternMicrophone

def open_radar(argument):
    if argument == "broken":
        raise RuntimeError("no antenna")
    return PatternMicrophone(rate_hz=int(argument or 8000))

open_radar.list_devices = lambda: [
    Device("left", "Radar L", "24 GHz", True),
    Device("right", "Radar R", "60 GHz", False),
]

def open_driver(argument):
    raise AssertionError("is only listed")

def _missing():
    raise MissingDependencyError("The driver", "libradar", "apt-get install libradar")

open_driver.list_devices = _missing

def open_crash(argument):
    return "not a sensor"

def _crash():
    import os
    os._exit(7)

open_crash.list_devices = _crash
"""
POINTS = """radar = radar_sensor:open_radar
radar-driver = radar_sensor:open_driver
radar-crash = radar_sensor:open_crash
radar-gone = radar_sensor:no_such_function
radar-broken = radar_broken
camera = radar_sensor:open_radar
"""


def install(target: Path, name: str, modules: dict[str, str], points: str) -> None:
    """Lays out a pure Python distribution as installers do (PyPA, "Recording installed projects")."""
    about = target / f"{name.replace('-', '_')}-1.5.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    (about / "entry_points.txt").write_text(f"[edgeemo.sensors]\n{points}")
    (about / "INSTALLER").write_text("test\n")
    for module, text in modules.items():
        (target / f"{module}.py").write_text(text)
    files = [
        *(f"{module}.py" for module in modules),
        *(f"{about.name}/{file.name}" for file in about.iterdir()),
    ]
    (about / "RECORD").write_text("".join(f"{file},,\n" for file in files))


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packages")
    install(folder, "radar-sensor", {"radar_sensor": RADAR, "radar_broken": "import not_there\n"}, POINTS)
    install(folder, "other-radar", {"other_radar": RADAR}, "radar-gone = other_radar:open_radar\n")
    return folder


@pytest.fixture
def plugins(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(installed))


def rows() -> dict[str, DeviceGroup]:
    return {group.kind: group for group in list_devices() if group.kind.startswith("sensor ")}


@pytest.mark.usefixtures("plugins")
def test_a_registered_sensor_is_made_by_its_name_and_argument() -> None:
    sensor = sensor_from_spec("radar:4000")
    clock = VirtualClock()
    sensor.start(clock)
    clock.advance(0.1)
    assert {chunk.rate_hz for chunk in sensor.poll()} == {4000}
    sensor.close()
    assert "radar" in {known.name for known in registered_sensors()}


@pytest.mark.usefixtures("plugins")
def test_devices_lists_registered_sensors_and_why_one_cannot_be_used() -> None:
    found = rows()
    radar = found["sensor radar"]
    assert (radar.works, radar.why) == (True, "registered by radar-sensor 1.5")
    assert [(device.key, device.default) for device in radar.devices] == [("left", True), ("right", False)]
    driver = found["sensor radar-driver"]
    assert (driver.works, driver.why, driver.install) == (
        False,
        "libradar is not installed",
        "apt-get install libradar",
    )
    assert found["sensor radar-crash"].why.startswith(
        "the devices of sensor 'radar-crash' could not be listed: exit 7"
    )
    assert "No module named 'not_there' (radar_broken)" in found["sensor radar-broken"].why
    assert found["sensor camera"].why.endswith("registers 'camera', which is the name of a sensor of edgeemo")
    assert found["sensor radar-gone"].why == (
        "other-radar 1.5 and radar-sensor 1.5 both register 'radar-gone'; uninstall one of them"
    )


@pytest.mark.usefixtures("plugins")
def test_devices_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["devices", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["sensor radar"]["devices"][0]["name"] == "Radar L"
    assert program.main(["devices"]) == 0
    assert "  *  left  Radar L (24 GHz)" in capsys.readouterr().out


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("radar:broken", "'radar:broken' cannot be made: RuntimeError: no antenna"),
        ("radar-crash", "'radar-crash' is a str, not an edgeemo.sensors.Sensor"),
        (
            "radar-broken",
            "1.5 cannot be loaded: ModuleNotFoundError: No module named 'not_there'",
        ),
        ("radar-gone", "other-radar 1.5 and radar-sensor 1.5 both register"),
        (
            "sonar:1",
            "no sensor 'sonar'; there are: mic, camera, stdin, .*radar, .*may register more",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_reason(spec: str, why: str) -> None:
    with pytest.raises(SensorError, match=why):
        sensor_from_spec(spec)


def test_sensors_of_edgeemo_have_names_too() -> None:
    made = {
        spec: sensor_from_spec(spec)
        for spec in (
            "mic",
            "mic:3",
            "mic:USB",
            "mic:pattern",
            "camera:pattern",
            "stdin",
            "camera:rtsp://h/1:2",
        )
    }
    assert [type(sensor) for sensor in made.values()] == [
        *[Microphone] * 3,
        PatternMicrophone,
        PatternCamera,
        StdinText,
        Camera,
    ]
    assert made["mic:3"].name == "microphone 3"
    assert made["camera:rtsp://h/1:2"].name == "camera rtsp://h/1:2"
    with pytest.raises(SensorError, match="the sensor stdin takes no argument, got 'x'"):
        sensor_from_spec("stdin:x")
