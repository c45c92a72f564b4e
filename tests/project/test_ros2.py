"""The ROS 2 sample, where there is no ROS: conversions, message definitions, and the node's own code."""

from __future__ import annotations

import ast
import importlib
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
import pytest

from edgeemo.clock import VirtualClock
from edgeemo.sensors import play
from edgeemo.sensors.media import MediaFile
from edgeemo.session import EngineOptions, Reading, Session, State, Status
from edgeemo.shipped import RECORDING

if TYPE_CHECKING:
    from standin_rclpy import Definitions, Robot

PACKAGE = Path(__file__).resolve().parents[2] / "samples" / "ros2" / "edgeemo_ros"
RELEASES = ["ROS2_HUMBLE", "ROS2_JAZZY"]


@pytest.fixture
def convert(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(PACKAGE))
    return importlib.import_module("edgeemo_ros.convert")


@pytest.fixture(params=RELEASES)
def definitions(request: pytest.FixtureRequest) -> Definitions:
    pytest.importorskip("rosbags", reason="needs rosbags")
    from rosbags.typesys import Stores
    from standin_rclpy import Definitions

    return Definitions(Stores[request.param])


def reading_of(label: str, **changes: Any) -> Reading:
    values: dict[str, Any] = {
        "time_s": 2.0,
        "label": label,
        "confidence": 0.75,
        "probabilities": {label: 0.75, "other": 0.25},
        "emotion": label,
        "valence": -0.5,
        "arousal": 0.25,
        "subset": "audio",
        "engine": "audio.int8",
        "backend": "cpu",
        "states": {"audio": Status(State.LIVE, "", 0.5)},
    }
    return Reading(**(values | changes))


def test_every_label_becomes_a_word_of_the_message(convert: Any, definitions: Definitions) -> None:
    words = set(definitions.constants("hri_msgs/msg/Expression").values())
    assert len(words) == 25
    labels = ("neutral", "happy", "sad", "angry", "fear", "disgust", "surprise")
    said = [convert.expression_from_reading(reading_of(label)).expression for label in labels]
    assert said == ["neutral", "happy", "sad", "angry", "scared", "disgusted", "surprised"]
    assert set(said) <= words


def test_the_labels_are_those_of_the_model_that_ships(convert: Any) -> None:
    with Session(engines=EngineOptions(variant="int8")) as session:
        assert set(session.manifest.labels) == set(convert.EXPRESSIONS)


def test_an_expression_says_what_the_reading_says(convert: Any) -> None:
    said = convert.expression_from_reading(reading_of("fear"))
    assert (said.expression, said.valence, said.arousal, said.confidence) == ("scared", -0.5, 0.25, 0.75)
    held = reading_of("sad", emotion="happy", probabilities={"sad": 0.6, "happy": 0.3})
    said = convert.expression_from_reading(held)  # hysteresis still shows the emotion before
    assert (said.expression, said.confidence) == ("happy", 0.3)


def test_without_a_signal_nothing_is_said(convert: Any) -> None:
    assert convert.expression_from_reading(Reading(time_s=1.0, label="no signal", states={})) is None


def test_what_a_model_does_not_know_is_said_to_be_unknown(convert: Any) -> None:
    said = convert.expression_from_reading(reading_of("proud", valence=None, arousal=None))
    assert said.expression == ""
    assert math.isnan(said.valence)
    assert math.isnan(said.arousal)


def test_a_stamp_is_when_it_was_captured(convert: Any) -> None:
    assert convert.stamp_from_time(2.0, now_s=2.25, ros_now_ns=10_500_000_000) == (10, 250_000_000)
    assert convert.stamp_from_time(0.0, now_s=9.0, ros_now_ns=1) == (0, 0), "never before the beginning"


PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)  # (H, W, BGR)


@pytest.mark.parametrize("encoding", ["bgr8", "rgb8", "bgra8", "rgba8", "8UC3"])
def test_images_of_colour(convert: Any, encoding: str) -> None:
    stored = PIXELS[:, :, ::-1] if encoding.startswith("rgb") else PIXELS
    if encoding.endswith("a8"):
        stored = np.concatenate([stored, np.full((2, 3, 1), 255, np.uint8)], axis=2)
    rows = np.pad(stored.reshape(2, -1), ((0, 0), (0, 5)))  # rows are padded
    frame = convert.frame_from_image(
        height=2, width=3, encoding=encoding, step=rows.shape[1], data=rows.tobytes()
    )
    np.testing.assert_array_equal(frame, PIXELS)


def test_grey_images(convert: Any) -> None:
    frame = convert.frame_from_image(height=1, width=2, encoding="mono8", step=2, data=b"\x05\x09")
    assert frame.tolist() == [[[5] * 3, [9] * 3]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoding": "yuv422"}, "'yuv422' cannot be used; known: bgr8"),
        ({"data": b"\x00" * 8}, "cannot have 8 bytes"),
        ({"step": 5}, "cannot have 9 bytes"),
        ({"height": 0}, "cannot have 9 bytes"),
    ],
)
def test_images_that_cannot_be_used(convert: Any, changes: dict[str, Any], message: str) -> None:
    image = {"height": 1, "width": 3, "encoding": "bgr8", "step": 9, "data": bytes(9)}
    with pytest.raises(ValueError, match=message):
        convert.frame_from_image(**(image | changes))


def test_diagnoses_of_a_real_session(convert: Any) -> None:
    sensors = play(MediaFile(RECORDING))
    with Session(sensors=sensors, engines=EngineOptions(variant="int8")) as session:
        session.start()
        session.mute("video")
        reading, stats = session.read(), session.stats()
    diagnoses = convert.diagnoses_from_session(reading, stats, expected=["audio"], name="node")
    found = {diagnosis.name: diagnosis for diagnosis in diagnoses}
    assert set(found) == {"node: audio", "node: video", "node: text", "node: engine"}
    assert found["node: video"].level == convert.OK
    assert found["node: video"].values["state"] == "muted"
    assert found["node: audio"].values["drops"] == str(stats.sensors["audio"].drops)
    for diagnosis in found.values():
        assert all(isinstance(value, str) for value in diagnosis.values.values())


@pytest.mark.parametrize(
    ("state", "expected", "level"),
    [
        (State.LIVE, ["audio"], 0),
        (State.QUIET, ["audio"], 0),
        (State.MUTED, ["audio"], 0),
        (State.POOR, ["audio"], 1),
        (State.LOST, ["audio"], 2),
        (State.ABSENT, ["audio"], 2),
        (State.ABSENT, ["video"], 0),
    ],
)
def test_levels(convert: Any, state: State, expected: list[str], level: int) -> None:
    with Session(engines=EngineOptions(variant="int8"), clock=VirtualClock()) as session:
        stats = session.stats()
    reading = reading_of("sad", states={"audio": Status(state, "a sentence", 0.0)})
    first, engine = convert.diagnoses_from_session(reading, stats, expected=expected, name="n")
    assert (first.level, first.message) == (level, f"{state}: a sentence")
    assert engine.level == convert.OK
    quiet = Reading(time_s=1.0, label="no signal", states={})
    (engine,) = convert.diagnoses_from_session(quiet, stats, expected=expected, name="n")
    assert engine.level == convert.STALE


def test_levels_are_those_of_the_message(convert: Any, definitions: Definitions) -> None:
    constants = definitions.constants("diagnostic_msgs/msg/DiagnosticStatus")
    assert constants == {name: getattr(convert, name) for name in ("OK", "WARN", "ERROR", "STALE")}


@pytest.fixture
def robot(definitions: Definitions, monkeypatch: pytest.MonkeyPatch) -> Iterator[Robot]:
    from standin_rclpy import Robot

    robot = Robot(
        definitions, {"mic": "none", "camera": "none", "text_topic": "/heard", "image_topic": "/eye"}
    )
    for name, module in robot.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(str(PACKAGE))
    sys.modules.pop("edgeemo_ros.node", None)
    yield robot
    sys.modules.pop("edgeemo_ros.node", None)


def run_node() -> None:
    importlib.import_module("edgeemo_ros.node").main()


def test_the_node_publishes_what_it_hears(robot: Robot) -> None:
    robot.parameters |= {"publish_tracked": True, "face_id": "abcde", "frame_id": "head", "hop_s": 0.25}
    text = robot.definitions.message_class("std_msgs/msg/String")

    def spin(node: Any) -> None:
        robot.tick()
        assert not robot.published["/humans/faces/abcde/expression"], "nothing was heard yet"
        robot.subscriptions["/heard"](text(data="what a wonderful, wonderful day, I am so happy"))
        for _ in range(600):  # what is new must hold for a quarter of a second
            if robot.published["/humans/faces/abcde/expression"]:
                return
            time.sleep(0.05)
            robot.tick()

    robot.on_spin = spin
    run_node()
    (said,) = robot.published["/humans/faces/abcde/expression"]
    assert said.expression in {"happy", "neutral", "surprised"}
    assert 0 < said.confidence <= 1
    assert -1 <= said.valence <= 1
    assert said.header.frame_id == "head"
    assert abs(said.header.stamp.sec + said.header.stamp.nanosec / 1e9 - robot.now_ns / 1e9) < 60
    *before, last = [list(ids.ids) for ids in robot.published["/humans/faces/tracked"]]
    assert last == ["abcde"]
    assert not any(before), "nobody is tracked without a signal"
    first = robot.published["/diagnostics"][0]
    assert [status.name for status in first.status] == [
        "edgeemo: audio",
        "edgeemo: video",
        "edgeemo: text",
        "edgeemo: engine",
    ]
    levels = [status.level for status in first.status]
    assert levels == [0, 2, 2, 3], "no microphone is wanted, both topics are silent, nothing is said"
    assert {pair.key for pair in first.status[-1].values} >= {"hops", "swaps", "latency_p50_ms"}
    assert robot.timers[0][0] == 0.25
    assert robot.events == ["init", "destroyed", "shutdown"]


def test_the_node_takes_images_and_says_once_what_it_cannot_use(robot: Robot) -> None:
    image = robot.definitions.message_class("sensor_msgs/msg/Image")
    pixels = bytes(64 * 48 * 3)

    def spin(node: Any) -> None:
        good = image(height=48, width=64, encoding="bgr8", step=192)
        object.__setattr__(good, "data", pixels)
        robot.subscriptions["/eye"](good)
        robot.tick()
        bad = image(height=48, width=64, encoding="yuv422", step=128)
        for _ in range(2):
            robot.subscriptions["/eye"](bad)

    robot.on_spin = spin
    run_node()
    video = robot.published["/diagnostics"][0].status[1]
    assert "absent" not in video.message
    assert sum("yuv422" in line for line in robot.logged) == 1


def test_the_node_closes_its_session_whatever_ends_it(robot: Robot) -> None:
    sessions = []

    def spin(node: Any) -> None:
        sessions.append(node._session)
        raise KeyboardInterrupt

    robot.parameters["notice"] = "This robot recognises what your face expresses."
    robot.on_spin = spin
    run_node()
    assert "closed" in repr(sessions[0])
    assert [str(event.kind) for event in sessions[0].events()] == ["notice_acknowledged"]
    assert robot.events == ["init", "destroyed", "shutdown"]


def test_parameters_of_the_file_are_those_of_the_node(robot: Robot) -> None:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML")
    text = (PACKAGE / "config" / "edgeemo.yaml").read_text(encoding="utf8")
    node = importlib.import_module("edgeemo_ros.node")
    assert yaml.safe_load(text)["edgeemo"]["ros__parameters"] == node.PARAMETERS


def test_the_package_describes_itself() -> None:
    root = ElementTree.parse(PACKAGE / "package.xml").getroot()  # noqa: S314 - our own file
    assert (root.tag, root.get("format")) == ("package", "3")
    told = {child.tag: child.text for child in root}
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "--name", "--version", "--license"],
        cwd=PACKAGE,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == [told["name"], told["version"], told["license"]]
    assert root.findtext("export/build_type") == "ament_python"
    imported = set()
    for path in (PACKAGE / "edgeemo_ros").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
            elif isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
    ours = imported - set(sys.stdlib_module_names) - {"edgeemo", "edgeemo_ros", "numpy"}
    assert ours <= {child.text for child in root.findall("exec_depend")}


def test_what_is_installed_is_there(tmp_path: Path) -> None:
    tree = ast.parse((PACKAGE / "setup.py").read_text(encoding="utf8"))
    assert "emotion_node = {NAME}.node:main" in ast.unparse(tree)
    for name in ("resource/edgeemo_ros", "package.xml", "launch/edgeemo.launch.py", "config/edgeemo.yaml"):
        assert (PACKAGE / name).is_file()
    launch = (PACKAGE / "launch" / "edgeemo.launch.py").read_text(encoding="utf8")
    compile(launch, "edgeemo.launch.py", "exec")
    assert "generate_launch_description" in launch
