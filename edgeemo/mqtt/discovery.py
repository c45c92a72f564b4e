"""What Home Assistant is told about the device, so that its sensors appear there by themselves.

One message for the whole device, as https://www.home-assistant.io/integrations/mqtt/ describes it under
"Device discovery payload"; the options of each kind are those of its pages for sensor, binary sensor and
switch.
"""

from __future__ import annotations

from typing import Any

import edgeemo
from edgeemo.bundle import Manifest
from edgeemo.mqtt.messages import OFF, OFFLINE, ON, ONLINE
from edgeemo.mqtt.topics import Topics
from edgeemo.session import State

STATUS_TOPIC = "status"
"""Under the prefix: Home Assistant says there that it has started and wants to hear about devices."""
EXPIRES_S = 60
"""Without news for so long a value is shown as unavailable."""


def discovery_from_manifest(
    manifest: Manifest, topics: Topics, *, name: str, commands: bool
) -> dict[str, Any]:
    """Returns the description of the device.

    Args:
        manifest: of the bundle, for the words that its sensors can show.
        topics: where its values are.
        name: of the device, for people.
        commands: whether it can be muted from there.
    """
    return {
        "device": {
            "identifiers": [topics.device_id],
            "name": name,
            "manufacturer": "edgeemo",
            "model": manifest.model_id,
            "sw_version": edgeemo.__version__,
        },
        "origin": {"name": "edgeemo", "sw_version": edgeemo.__version__},
        "availability_topic": topics.availability,
        "payload_available": ONLINE,
        "payload_not_available": OFFLINE,
        "state_topic": topics.state,
        "components": _components(manifest, topics, commands=commands),
    }


def _components(manifest: Manifest, topics: Topics, *, commands: bool) -> dict[str, Any]:
    labels = list(manifest.labels)
    components = {
        "emotion": _words("Emotion", "emotion", labels, icon="mdi:emoticon-outline"),
        "mood": _words("Mood", "mood", labels, icon="mdi:emoticon-cool-outline"),
        "confidence": {
            **_sensor("Confidence", "{{ (value_json.confidence * 100) | round(1) }}"),
            "unit_of_measurement": "%",
            "state_class": "measurement",
            "icon": "mdi:gauge",
        },
        "valence": _number("Valence", "valence", icon="mdi:arrow-left-right"),
        "arousal": _number("Arousal", "arousal", icon="mdi:arrow-up-down"),
        "subset": _diagnostic("Modalities in use", "subset"),
        "engine": _diagnostic("Engine", "engine"),
        "signal": {
            "platform": "binary_sensor",
            "name": "Signal",
            "value_template": f"{{{{ '{ON}' if value_json.signal else '{OFF}' }}}}",
            "expire_after": EXPIRES_S,
            "icon": "mdi:access-point",
        },
    }
    for modality in manifest.order:
        components[f"state_{modality}"] = {
            **_words(modality.capitalize(), "state", [str(state) for state in State], icon="mdi:radar"),
            "state_topic": topics.modality(modality),
            "json_attributes_topic": topics.modality(modality),
            "entity_category": "diagnostic",
        }
        if commands:
            components[f"mute_{modality}"] = {
                "platform": "switch",
                "name": f"Mute {modality}",
                "state_topic": topics.modality(modality),
                "value_template": f"{{{{ '{ON}' if value_json.state == '{State.MUTED}' else '{OFF}' }}}}",
                "command_topic": topics.mute(modality),
                "payload_on": ON,
                "payload_off": OFF,
                "qos": 1,
                "entity_category": "config",
                "icon": "mdi:eye-off-outline",
            }
    for key, component in components.items():
        component["unique_id"] = f"{topics.device_id}_{key}"
    return components


def _sensor(name: str, template: str) -> dict[str, Any]:
    return {"platform": "sensor", "name": name, "value_template": template, "expire_after": EXPIRES_S}


def _words(name: str, key: str, options: list[str], *, icon: str) -> dict[str, Any]:
    # A value that is null renders as None, which Home Assistant shows as unknown.
    template = f"{{{{ value_json.{key} }}}}"
    return {**_sensor(name, template), "device_class": "enum", "options": options, "icon": icon}


def _number(name: str, key: str, *, icon: str) -> dict[str, Any]:
    return {**_sensor(name, f"{{{{ value_json.{key} }}}}"), "state_class": "measurement", "icon": icon}


def _diagnostic(name: str, key: str) -> dict[str, Any]:
    return {**_sensor(name, f"{{{{ value_json.{key} }}}}"), "entity_category": "diagnostic"}
