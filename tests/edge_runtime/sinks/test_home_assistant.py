"""What Home Assistant is told: what its device discovery asks for, and nothing that a stranger's label can break."""

import json
import re
from dataclasses import replace

import pytest

from edge_runtime import __version__
from edge_runtime.sinks.mqtt.home_assistant import Device, clean, discovery_payload, discovery_topic

DEVICE = Device("edgekit_door", "Front door", "edgekit/door", ("cat", "dog"), "pets", rates=True, frames=True)
# Keys of Home Assistant's schemas; an unknown one would be ignored, and a misspelt one is unknown.
SHARED = {"platform", "name", "unique_id", "icon", "entity_category", "device_class", "value_template"}
SENSOR = "state_class expire_after unit_of_measurement options suggested_display_precision json_attributes_topic"
KNOWN = {
    "sensor": {*SHARED, "state_topic", *SENSOR.split()},
    "binary_sensor": {*SHARED, "state_topic"},
    "event": {*SHARED, "state_topic", "event_types"},
    "camera": {*SHARED, "topic"},
}


def described(device):
    return json.loads(discovery_payload(device))


def test_the_device_is_described_as_discovery_asks():
    payload = described(DEVICE)
    assert discovery_topic("homeassistant", DEVICE) == "homeassistant/device/edgekit_door/config"
    assert payload["device"] == {
        "identifiers": ["edgekit_door"],
        "name": "Front door",
        "manufacturer": "edgekit",
        "model": "pets",
        "sw_version": __version__,
    }
    assert payload["origin"] == {"name": "edgekit", "sw_version": __version__}
    assert payload["availability_topic"] == "edgekit/door/availability"
    kinds = {key: component["platform"] for key, component in payload["components"].items()}
    sensors = dict.fromkeys(("label", "score", "rate", "latency", "source"), "sensor")
    assert kinds == {**sensors, "connection": "binary_sensor", "event": "event", "picture": "camera"}


def test_components_have_known_keys_unique_identifiers_and_topics_that_are_published():
    components = described(DEVICE)["components"]
    assert len({component["unique_id"] for component in components.values()}) == len(components)
    for component in components.values():
        assert set(component) <= KNOWN[component["platform"]]
        assert re.fullmatch(r"edgekit_door_[a-z]+", component["unique_id"])
        topic = component.get("state_topic") or component["topic"]
        assert topic in {f"edgekit/door/{level}" for level in ("state", "source", "event", "frame")}
        if topic.endswith("/state"):
            assert component["expire_after"] >= 120
    assert components["label"]["options"] == components["event"]["event_types"] == ["cat", "dog"]
    assert components["latency"]["entity_category"] == "diagnostic"


def test_what_is_not_published_is_not_described():
    components = described(replace(DEVICE, rates=False, frames=False))["components"]
    assert "rate" not in components
    assert "picture" not in components


@pytest.mark.parametrize(
    "labels",
    [
        tuple(f"label {number}" for number in range(1001)),
        ("cat", "cat"),
        ("cat", "unknown"),
        ("cat", " dog"),
        ("cat", "x" * 300),
        ("cat", "a\x1b[31m"),
        (),
    ],
)
def test_labels_that_are_no_list_of_choices_leave_a_sensor_of_any_text(labels):
    components = described(replace(DEVICE, labels=labels))["components"]
    assert "options" not in components["label"]
    assert "device_class" not in components["label"]
    assert "event" not in components
    assert len(discovery_payload(replace(DEVICE, labels=labels))) < 10_000


def test_names_and_labels_are_data_and_never_a_template():
    nasty = '{{ states("x") }}"\n\x00\udcff'
    components = described(replace(DEVICE, name=nasty, labels=("{{ 1 }}", "dog"), model=nasty))["components"]
    templates = [component["value_template"] for component in components.values() if "value_template" in component]
    assert len(templates) >= 4
    assert not any("states" in template or "{{ 1 }}" in template for template in templates)


def test_text_for_people_has_no_control_characters_and_a_limit():
    assert clean("Küche 猫") == "Küche 猫"
    assert clean("a\nb\x1b\udcff") == "a b"
    assert len(clean("x" * 1000)) == 255


@pytest.mark.parametrize(
    ("key", "state", "shown"),
    [
        ("label", {"label": "cat"}, "cat"),
        ("label", {"label": None}, "None"),  # which Home Assistant takes for unknown
        ("score", {"score": 0.87654}, "87.7"),
        ("score", {"score": 0.0}, "0.0"),
        ("score", {"score": None}, "None"),
        ("rate", {"frames_per_second": 29.5}, "29.5"),
        ("latency", {"latency_ms": None}, "None"),
        ("connection", "connected", "ON"),
        ("connection", "stalled", "OFF"),
        ("connection", "ended", "OFF"),
    ],
)
def test_templates_give_what_the_states_hold(key, state, shown):
    jinja2 = pytest.importorskip("jinja2", reason="Jinja, which Home Assistant's templates are written for, is missing")
    template = described(DEVICE)["components"][key]["value_template"]
    made = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(template)
    assert made.render(value=state, value_json=state) == shown
