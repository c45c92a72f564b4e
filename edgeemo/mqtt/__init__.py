"""Readings to an MQTT broker, as home automation and robots expect them."""

from edgeemo.mqtt.address import BrokerAddress, address_from_url
from edgeemo.mqtt.publisher import Publisher, PublisherStats
from edgeemo.mqtt.tls import Tls
from edgeemo.mqtt.topics import Topics

__all__ = ["BrokerAddress", "Publisher", "PublisherStats", "Tls", "Topics", "address_from_url"]
