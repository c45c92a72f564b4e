"""Ways to reach a device: a thread, a child process, or the thread that polls."""

from edgeemo.sensors.connections.base import Connection, ConnectionKind, Device, Gone, Recipe
from edgeemo.sensors.connections.inline import InlineConnection
from edgeemo.sensors.connections.process import ProcessConnection
from edgeemo.sensors.connections.python import can_isolate
from edgeemo.sensors.connections.thread import ThreadConnection

__all__ = [
    "Connection",
    "ConnectionKind",
    "Device",
    "Gone",
    "InlineConnection",
    "ProcessConnection",
    "Recipe",
    "ThreadConnection",
    "can_isolate",
]
