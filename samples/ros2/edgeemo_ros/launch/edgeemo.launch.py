"""Starts the node with config/edgeemo.yaml, or with another file: ``params:=my.yaml``."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node


def generate_launch_description() -> LaunchDescription:
    """Returns the node with its parameters."""
    default = Path(get_package_share_directory("edgeemo_ros")) / "config" / "edgeemo.yaml"
    return LaunchDescription(
        [
            DeclareLaunchArgument("params", default_value=str(default), description="file of parameters"),
            Node(
                package="edgeemo_ros",
                executable="emotion_node",
                name="edgeemo",
                output="screen",
                parameters=[LaunchConfiguration("params")],
            ),
        ]
    )
