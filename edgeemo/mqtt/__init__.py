"""Readings to an MQTT broker, as home automation and robots expect them."""
