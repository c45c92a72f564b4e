"""A stand-in for rclpy and its messages: enough to run a node's own code where there is no ROS.

It is not ROS: no executor, no discovery, no delivery. Messages have exactly the fields of their definitions,
take only the types that rclpy takes, and go through CDR, the encoding of ROS 2, when they are published.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any

from rosbags.typesys import Stores, get_types_from_msg, get_typestore

# https://github.com/ros4hri/hri_msgs, msg/Expression.msg and msg/IdsList.msg at 52bdab7 (BSD licence),
# without comments.
EXPRESSION = """
std_msgs/Header header
string NEUTRAL="neutral"
string ANGRY="angry"
string SAD="sad"
string HAPPY="happy"
string SURPRISED="surprised"
string DISGUSTED="disgusted"
string SCARED="scared"
string PLEADING="pleading"
string VULNERABLE="vulnerable"
string DESPAIRED="despaired"
string GUILTY="guilty"
string DISAPPOINTED="disappointed"
string EMBARRASSED="embarrassed"
string HORRIFIED="horrified"
string SKEPTICAL="skeptical"
string ANNOYED="annoyed"
string FURIOUS="furious"
string SUSPICIOUS="suspicious"
string REJECTED="rejected"
string BORED="bored"
string TIRED="tired"
string ASLEEP="asleep"
string CONFUSED="confused"
string AMAZED="amazed"
string EXCITED="excited"
string expression
float32 valence
float32 arousal
float32 confidence
"""
IDS_LIST = """
std_msgs/Header header
string[] ids
"""
_TYPES = {"string": str, "float32": float, "int32": int, "uint32": int, "uint8": int}
_DEFAULTS = {"string": "", "float32": 0.0, "int32": 0, "uint32": 0, "uint8": 0, "byte": b"\0"}


class Definitions:
    """Message classes of one release of ROS 2, and hri_msgs.

    Args:
        store: which release.
    """

    def __init__(self, store: Stores) -> None:
        self.store = get_typestore(store)
        self.store.register(get_types_from_msg(EXPRESSION, "hri_msgs/msg/Expression"))
        self.store.register(get_types_from_msg(IDS_LIST, "hri_msgs/msg/IdsList"))
        self._classes: dict[str, type[Message]] = {}

    def constants(self, name: str) -> dict[str, Any]:
        return {constant: value for constant, _, value in self.store.fielddefs[name][0]}

    def message_class(self, name: str) -> type[Message]:
        if name not in self._classes:
            as_bytes = {
                constant: bytes([value]) if kind == "byte" else value
                for constant, kind, value in self.store.fielddefs[name][0]
            }
            described = {"definitions": self, "type_name": name, **as_bytes}
            self._classes[name] = type(name.rpartition("/")[2], (Message,), described)
        return self._classes[name]

    def cdr_round_trip(self, message: Message) -> Any:
        """Encodes a message as ROS 2 would, and returns what a subscriber would get."""
        wire = self.store.serialize_cdr(message.plain(), message.type_name)
        return self.store.deserialize_cdr(wire, message.type_name)


class Message:
    """A message with the fields of its definition and no others."""

    definitions: Definitions
    type_name: str

    def __init__(self, **values: Any) -> None:
        for field, (kind, detail) in self.definitions.store.fielddefs[self.type_name][1]:
            object.__setattr__(self, field, self._empty(int(kind), detail))
        for field, value in values.items():
            setattr(self, field, value)

    def _empty(self, kind: int, detail: Any) -> Any:
        if kind == 1:
            return _DEFAULTS[detail[0]]
        return self.definitions.message_class(detail)() if kind == 2 else []

    def __setattr__(self, field: str, value: Any) -> None:
        kinds = dict(self.definitions.store.fielddefs[self.type_name][1])
        if field not in kinds:
            raise AttributeError(f"{self.type_name} has no field {field}")
        kind, detail = kinds[field]
        if int(kind) == 1:
            name = detail[0]
            fits = len(value) == 1 if name == "byte" and isinstance(value, bytes) else name != "byte"
            if not fits or (name != "byte" and not isinstance(value, _TYPES[name])):
                raise AssertionError(f"{field} of {self.type_name} is a {name}, got {value!r}")
        object.__setattr__(self, field, value)

    def plain(self) -> Any:
        """The message as rosbags takes it."""
        fields = self.definitions.store.fielddefs[self.type_name][1]
        values = {field: _plain(getattr(self, field)) for field, _ in fields}
        return self.definitions.store.types[self.type_name](**values)


def _plain(value: Any) -> Any:
    if isinstance(value, Message):
        return value.plain()
    if isinstance(value, bytes) and len(value) == 1:
        return value[0]
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


class ShutDown(Exception):  # noqa: N818 - rclpy's is called an exception, not an error
    """Somebody else ended ROS."""


class Robot:
    """What the stand-in for rclpy knows and what was done to it.

    Args:
        definitions: of the messages.
        parameters: as a launch file would set them.
    """

    def __init__(self, definitions: Definitions, parameters: Mapping[str, Any]) -> None:
        self.definitions, self.parameters = definitions, dict(parameters)
        self.published: dict[str, list[Any]] = {}
        self.subscriptions: dict[str, Callable[[Any], None]] = {}
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.logged: list[str] = []
        self.now_ns = 1_700_000_000_000_000_000
        self.on_spin: Callable[[Any], None] = lambda node: None
        self.events: list[str] = []

    def modules(self) -> dict[str, types.ModuleType]:
        """What ``import`` finds."""
        message = self.definitions.message_class
        contents: dict[str, dict[str, Any]] = {
            "rclpy": {"init": self._init, "spin": self._spin, "try_shutdown": self._shut_down},
            "rclpy.node": {"Node": self._node_class()},
            "rclpy.executors": {"ExternalShutdownException": ShutDown},
            "rclpy.qos": {
                "QoSProfile": lambda **words: words,
                "ReliabilityPolicy": types.SimpleNamespace(RELIABLE="reliable"),
                "qos_profile_sensor_data": "sensor data",
            },
        }
        for package, names in (
            ("diagnostic_msgs", ("DiagnosticArray", "DiagnosticStatus", "KeyValue")),
            ("hri_msgs", ("Expression", "IdsList")),
            ("sensor_msgs", ("Image",)),
            ("std_msgs", ("String",)),
        ):
            contents[package] = {}
            contents[f"{package}.msg"] = {name: message(f"{package}/msg/{name}") for name in names}
        modules = {name: types.ModuleType(name) for name in contents}
        for name, inside in contents.items():
            modules[name].__dict__.update(inside)
            modules[name].__path__ = []
        return modules

    def tick(self) -> None:
        """Lets every timer fire once."""
        for _, callback in self.timers:
            callback()

    def _init(self, args: object = None) -> None:
        self.events.append("init")

    def _spin(self, node: Any) -> None:
        self.on_spin(node)
        raise ShutDown

    def _shut_down(self) -> None:
        self.events.append("shutdown")

    def _node_class(robot: Robot) -> type:  # noqa: N805 - the node's methods have a self of their own
        class Node:
            def __init__(self, name: str) -> None:
                self._name = name
                self._declared: dict[str, Any] = {}

            def get_name(self) -> str:
                return self._name

            def declare_parameter(self, name: str, default: Any) -> None:
                value = robot.parameters.get(name, default)
                assert isinstance(value, type(default)), f"{name} is declared as {type(default)}"
                self._declared[name] = value

            def get_parameter(self, name: str) -> Any:
                return types.SimpleNamespace(value=self._declared[name])

            def create_publisher(self, kind: type[Message], topic: str, qos: object) -> Any:
                told = robot.published.setdefault(topic, [])

                def publish(message: Message) -> None:
                    assert isinstance(message, kind)
                    told.append(robot.definitions.cdr_round_trip(message))

                return types.SimpleNamespace(publish=publish)

            def create_subscription(
                self, kind: type[Message], topic: str, callback: Callable[[Any], None], qos: object
            ) -> None:
                robot.subscriptions[topic] = callback

            def create_timer(self, period_s: float, callback: Callable[[], None]) -> None:
                robot.timers.append((period_s, callback))

            def get_clock(self) -> Any:
                stamp = robot.definitions.message_class("builtin_interfaces/msg/Time")
                now = types.SimpleNamespace(nanoseconds=robot.now_ns, to_msg=stamp)
                return types.SimpleNamespace(now=lambda: now)

            def get_logger(self) -> Any:
                return types.SimpleNamespace(info=robot.logged.append, warning=robot.logged.append)

            def destroy_node(self) -> None:
                robot.events.append("destroyed")

        return Node
