"""Builds the ROS 2 package, as ``colcon build`` expects it."""

from setuptools import setup

NAME = "edgeemo_ros"

setup(
    name=NAME,
    version="0.1.0",
    description="Publishes what edgeemo recognises as hri_msgs/Expression",
    license="Apache-2.0",
    packages=[NAME],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", ["launch/edgeemo.launch.py"]),
        (f"share/{NAME}/config", ["config/edgeemo.yaml"]),
    ],
    install_requires=["setuptools"],  # edgeemo itself: pip install 'edgeemo[live]'
    zip_safe=True,
    entry_points={"console_scripts": [f"emotion_node = {NAME}.node:main"]},
)
