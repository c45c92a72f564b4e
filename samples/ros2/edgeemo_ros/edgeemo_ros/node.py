"""The node: a session of edgeemo whose readings are ROS 2 messages.

Everything happens in the executor's thread: a timer asks the session once each hop, and publishes.
"""

from __future__ import annotations

from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from hri_msgs.msg import Expression, IdsList
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import Image
from std_msgs.msg import String

from edgeemo import EdgeEmoError, Reading, Session
from edgeemo.sensors import Sensor
from edgeemo.sensors.registry import camera_from_spec, microphone_from_spec
from edgeemo_ros.convert import (
    diagnoses_from_session,
    expression_from_reading,
    frame_from_image,
    stamp_from_time,
)

PARAMETERS = {
    "bundle": "",
    "mic": "default",
    "camera": "default",
    "image_topic": "",
    "text_topic": "",
    "notice": "",
    "hop_s": 0.5,
    "face_id": "edgeemo",
    "publish_tracked": False,
    "frame_id": "",
    "diagnostics_period_s": 1.0,
}
"""Name -> default; config/edgeemo.yaml says what each is for."""


class EmotionNode(Node):
    """Opens a session when it is made and closes it when it is destroyed."""

    def __init__(self) -> None:
        super().__init__("edgeemo")
        for name, default in PARAMETERS.items():
            self.declare_parameter(name, default)
        face = f"/humans/faces/{self._value('face_id')}"
        newest = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
        self._expressions = self.create_publisher(Expression, f"{face}/expression", newest)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._tracked = None
        if self._value("publish_tracked"):
            self._tracked = self.create_publisher(IdsList, "/humans/faces/tracked", newest)
        sensors = self._sensors()
        self._expected = {sensor.modality for sensor in sensors}
        notice = self._value("notice")
        self._session = Session(
            self._value("bundle") or None,
            sensors=sensors,
            settings={"hop_s": float(self._value("hop_s"))},
            notice=notice or None,
        )
        if notice:  # a robot says it aloud or shows it; whoever starts the node answers for that
            self.get_logger().info(f"people must have been told: {notice}")
            self._session.acknowledge(f"operator who started node {self.get_name()}")
        if sensors:
            self._session.start()
        if self._value("image_topic"):
            self._expected.add("video")
            self.create_subscription(
                Image, self._value("image_topic"), self._take_image, qos_profile_sensor_data
            )
        if self._value("text_topic"):
            self._expected.add("text")
            self.create_subscription(String, self._value("text_topic"), self._take_text, 10)
        self._diagnosed_s = -float("inf")
        self._refused = ""
        self.create_timer(self._session.hop_s, self._read)
        self.get_logger().info(f"{self._session!r} publishes on {face}/expression")

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value

    def _sensors(self) -> list[Sensor]:
        """Returns the devices that are opened here; what comes by a topic is opened elsewhere."""
        sensors = []
        if self._value("mic") != "none":
            sensors.append(microphone_from_spec(_device(self._value("mic")), required=False))
        if self._value("camera") != "none" and not self._value("image_topic"):
            sensors.append(camera_from_spec(_device(self._value("camera")), required=False))
        return sensors

    def _take_image(self, image: Image) -> None:
        try:
            frame = frame_from_image(
                height=image.height,
                width=image.width,
                encoding=image.encoding,
                step=image.step,
                data=bytes(image.data),
            )
            self._session.push_frame(frame)
        except (EdgeEmoError, ValueError) as reason:
            self._say_refused(str(reason))

    def _take_text(self, text: String) -> None:
        try:
            self._session.push_text(text.data)
        except EdgeEmoError as reason:
            self._say_refused(str(reason))

    def _say_refused(self, reason: str) -> None:
        """Says once why what a topic gives is not used."""
        if reason != self._refused:
            self._refused = reason
            self.get_logger().warning(reason)

    def _read(self) -> None:
        """Publishes one reading; without a signal nothing about anybody."""
        reading = self._session.read()
        stamp = self.get_clock().now().to_msg()
        stamp.sec, stamp.nanosec = stamp_from_time(
            reading.time_s, now_s=self._session.now_s, ros_now_ns=self.get_clock().now().nanoseconds
        )
        said = expression_from_reading(reading)
        if said is not None:
            message = Expression()
            message.header.stamp = stamp
            message.header.frame_id = self._value("frame_id")
            message.expression = said.expression
            message.valence = said.valence
            message.arousal = said.arousal
            message.confidence = said.confidence
            self._expressions.publish(message)
        if self._tracked is not None:
            ids = IdsList()
            ids.header.stamp = stamp
            ids.ids = [self._value("face_id")] if said is not None else []
            self._tracked.publish(ids)
        if reading.time_s - self._diagnosed_s >= float(self._value("diagnostics_period_s")):
            self._diagnosed_s = reading.time_s
            self._publish_diagnostics(reading, stamp)

    def _publish_diagnostics(self, reading: Reading, stamp: Any) -> None:
        levels = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR, DiagnosticStatus.STALE)
        array = DiagnosticArray()
        array.header.stamp = stamp
        stats = self._session.stats()
        for found in diagnoses_from_session(reading, stats, expected=self._expected, name=self.get_name()):
            status = DiagnosticStatus()
            status.level = levels[found.level]
            status.name, status.message, status.hardware_id = found.name, found.message, found.hardware_id
            status.values = [KeyValue(key=key, value=value) for key, value in found.values.items()]
            array.status.append(status)
        self._diagnostics.publish(array)

    def destroy_node(self) -> None:
        """Closes microphone, camera and engines, within two seconds."""
        self._session.close()
        super().destroy_node()


def _device(word: str) -> str | None:
    return None if word == "default" else word


def main(args: list[str] | None = None) -> None:
    """Runs the node until it is shut down."""
    rclpy.init(args=args)
    node = None
    try:
        node = EmotionNode()
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
