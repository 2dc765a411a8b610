"""Home Assistant discovery messages that show a camera as one device.

One retained message describes the whole device, as in https://www.home-assistant.io/integrations/mqtt/ under "Device
discovery payload". Labels and names are data in it and never part of a template, so that they are not evaluated.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge_runtime.results import SourceState
from edge_runtime.version import __version__

EXPIRE_AFTER_S = 120
_MAX_OPTIONS = 100
_MAX_STATE = 255  # characters of a state in Home Assistant
_DIAGNOSTIC = {"entity_category": "diagnostic"}
_MEASUREMENT = {"state_class": "measurement"}
_RESERVED = ("", "None", "unknown", "unavailable")


@dataclass(frozen=True)
class Device:
    """A camera as a device of Home Assistant.

    Attributes:
        identifier: Constant identifier of letters, digits, ``_`` and ``-``.
        name: Display name of the camera.
        topic: MQTT topic of the camera, without its last level.
        labels: All labels of the model, in any order.
        model: Display name of the model, or None.
        rates: True if states contain the frame rate.
        frames: True if images are published.
        expire_after_s: Seconds without an update after which values are no longer shown.
    """

    identifier: str
    name: str
    topic: str
    labels: Sequence[str]
    model: str | None = None
    rates: bool = False
    frames: bool = False
    expire_after_s: int = EXPIRE_AFTER_S


def discovery_topic(prefix: str, device: Device) -> str:
    """Make the topic of a device's discovery message."""
    return f"{prefix}/device/{device.identifier}/config"


def discovery_payload(device: Device) -> bytes:
    """Make the discovery message of a device, in JSON."""
    description: dict[str, Any] = {"identifiers": [device.identifier], "name": clean(device.name)}
    description |= {"manufacturer": "edgekit", "sw_version": __version__}
    if device.model:
        description["model"] = clean(device.model)
    payload = {
        "device": description,
        "origin": {"name": "edgekit", "sw_version": __version__},
        "availability_topic": f"{device.topic}/availability",
        "qos": 1,
        "components": _components(device),
    }
    return json.dumps(payload, allow_nan=False).encode()


def clean(text: str) -> str:
    """Make text fit for a state or name: no control characters, valid UTF-8, at most 255 characters."""
    plain = "".join(char if char.isprintable() else " " for char in text)
    return plain.encode("utf-8", "replace").decode("utf-8").strip()[:_MAX_STATE]


def _components(device: Device) -> dict[str, dict[str, Any]]:
    options = _as_options(device.labels)
    enum: dict[str, Any] = {"device_class": "enum", "options": options} if options else {}
    attributes = {"json_attributes_topic": f"{device.topic}/state"}
    score = "{{ none if value_json.score is none else (value_json.score * 100) | round(1) }}"
    milliseconds = {"device_class": "duration", "unit_of_measurement": "ms", "suggested_display_precision": 1}
    connected = f"{{{{ 'ON' if value == '{SourceState.CONNECTED.value}' else 'OFF' }}}}"
    connection = {"device_class": "connectivity", "value_template": connected, **_DIAGNOSTIC}
    states = {"device_class": "enum", "options": [state.value for state in SourceState], **_DIAGNOSTIC}

    def component(platform: str, name: str, level: str, **more: Any) -> dict[str, Any]:
        return {"platform": platform, "name": name, "state_topic": f"{device.topic}/{level}", **more}

    def value(name: str, template: str, **more: Any) -> dict[str, Any]:
        expires = {"expire_after": device.expire_after_s}
        return component("sensor", name, "state", value_template=template, **expires, **more)

    components = {
        "label": value("Label", "{{ value_json.label }}", icon="mdi:tag", **attributes, **enum),
        "score": value("Score", score, unit_of_measurement="%", icon="mdi:percent", **_MEASUREMENT),
        "connection": component("binary_sensor", "Camera", "source", **connection),
        "source": component("sensor", "Camera state", "source", **states),
        "latency": value("Latency", "{{ value_json.latency_ms }}", **milliseconds, **_MEASUREMENT, **_DIAGNOSTIC),
    }
    if device.rates:
        rate = {"unit_of_measurement": "fps", **_MEASUREMENT, **_DIAGNOSTIC}
        components["rate"] = value("Frame rate", "{{ value_json.frames_per_second }}", **rate)
    if options:
        components["event"] = component("event", "Seen", "event", event_types=options, icon="mdi:eye")
    if device.frames:
        components["picture"] = {"platform": "camera", "name": "Picture", "topic": f"{device.topic}/frame"}
    return {key: {**made, "unique_id": f"{device.identifier}_{key}"} for key, made in components.items()}


def _as_options(labels: Sequence[str]) -> list[str]:
    """Return the labels if they are distinct, valid states and at most 100; else none, so that any text is valid."""
    usable = all(clean(label) == label and label not in _RESERVED for label in labels)
    return list(labels) if usable and 0 < len(labels) <= _MAX_OPTIONS and len(set(labels)) == len(labels) else []
