"""The MQTT sink against a small broker of this file's own, so that it is tested where no real one is installed."""

import contextlib
import json
import threading
import time
import types
from dataclasses import replace

import numpy as np
import pytest

from edge_runtime.pipeline.health import Health
from edge_runtime.results import SourceState, StateChange
from edge_runtime.sinks.mqtt import connection
from edge_runtime.sinks.mqtt.connection import EVENTS, MAX_UNACKNOWLEDGED
from edge_runtime.sinks.mqtt.options import MqttOptions
from edge_runtime.sinks.mqtt.sink import MqttSink
from support.http import free_port
from support.mqtt import SmallBroker
from support.results import decided
from support.waiting import wait_until

pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed (extra mqtt)")


def states(broker):
    return [json.loads(payload) for payload in broker.on("edgekit/door/state")]


def wait_for_state(broker, **expected):
    """Wait until the newest state has these values."""
    wait_until(lambda: states(broker) and expected.items() <= states(broker)[-1].items(), f"the state {expected}")


def frames(broker):
    return [json.loads(payload)["frame"] for payload in broker.on("edgekit/door/event")]


@pytest.fixture
def broker():
    with contextlib.closing(SmallBroker()) as broker:
        yield broker


@pytest.fixture
def open_sink(stack):
    def make(broker, name="door", health=None, **options):
        plain = MqttOptions("127.0.0.1", broker.port, retry_s=(0.05, 0.2), interval_s=3600)
        options = replace(plain, **options)
        return stack.enter_context(MqttSink(options, name=name, labels=("cat", "dog"), health=health))

    return make


def test_what_is_true_is_retained_and_an_event_is_not(broker, open_sink):
    health = Health()
    sink = open_sink(broker, health=health)
    sink.write(StateChange("cam", SourceState.CONNECTED, 0.0))
    sink.write(decided(event=True, number=7))
    wait_until(lambda: broker.on("edgekit/door/event"), "the event")
    wait_for_state(broker, label="cat")
    retained = {topic: retain for topic, _, retain in broker.messages}
    kept = {f"edgekit/door/{level}": True for level in ("availability", "state", "source")}
    assert retained == {"homeassistant/device/edgekit_door/config": True, **kept, "edgekit/door/event": False}
    assert broker.on("edgekit/door/availability") == [b"online"]
    assert broker.on("edgekit/door/source")[-1] == b"connected"
    assert states(broker)[-1] == {
        "label": "cat",
        "score": 0.9,
        "answer": {"label": "cat", "score": 0.9},
        "latency_ms": 4.0,
        "at": 1700000000.5,
        "frames_per_second": 0.0,
        "source": "connected",
    }
    (event,) = broker.on("edgekit/door/event")
    assert json.loads(event) == {"event_type": "cat", "label": "cat", "score": 0.9, "frame": 7, "at": 1700000000.5}
    assert (sink.dropped, sink.problem) == (0, None)


def test_the_last_will_is_a_retained_offline_and_the_client_has_the_camera_s_name(broker, open_sink):
    open_sink(broker, name="Front door ü/+#")
    wait_until(lambda: broker.hellos, "a connection")
    hello = broker.hellos[0]
    assert b"edgekit-Front_door_u" in hello
    assert b"edgekit/Front_door_u/availability" in hello
    assert hello.endswith(b"offline")
    assert hello[7] & 0x3C == 0x2C  # will, of quality 1, retained


def test_a_state_is_sent_on_change_and_not_for_every_frame(broker, open_sink):
    sink = open_sink(broker)
    sink.write(decided())
    wait_for_state(broker, label="cat")
    count = len(states(broker))
    for number in range(2000):
        sink.write(decided(score=0.9 - number * 1e-5))
    sink.write(decided("dog"))
    wait_for_state(broker, label="dog")
    assert len(states(broker)) == count + 1
    sink.write(decided(None, score=0.3))
    wait_for_state(broker, label=None, answer={"label": "cat", "score": 0.3})


def test_a_state_is_also_sent_once_per_interval(broker, open_sink):
    sink = open_sink(broker, interval_s=0.3)
    for score in (0.5, 0.6, 0.7):
        sink.write(decided(score=score))
        wait_for_state(broker, score=score)


def test_after_a_loss_everything_true_is_said_again(broker, open_sink):
    sink = open_sink(broker)
    sink.write(StateChange("cam", SourceState.STALLED, 0.0))
    sink.write(decided())
    wait_until(lambda: broker.on("edgekit/door/source"), "the source")
    wait_for_state(broker, label="cat")
    broker.messages.clear()
    broker.drop()
    wait_until(lambda: states(broker) and broker.on("edgekit/door/source"), "messages after the loss")
    assert broker.on("edgekit/door/availability") == [b"online"]
    assert len(broker.on("homeassistant/device/edgekit_door/config")) == 1
    assert states(broker)[-1]["label"] == "cat"
    assert broker.on("edgekit/door/source") == [b"stalled"]
    wait_until(lambda: sink.problem is None, "no problem")


def test_home_assistant_s_start_brings_the_description_again_but_not_once_per_message(broker, open_sink):
    open_sink(broker)
    topic = "homeassistant/device/edgekit_door/config"
    wait_until(lambda: broker.on(topic) and states(broker), "the first description")
    for _ in range(500):
        broker.publish("homeassistant/status", b"online")
    wait_until(lambda: len(broker.on(topic)) > 1, "the second description")
    assert len(broker.on(topic)) <= 3
    wait_until(lambda: len(broker.on("edgekit/door/availability")) == len(broker.on(topic)), "as many availabilities")


def test_a_broker_that_acknowledges_nothing_stops_nothing_and_fills_no_memory(broker, open_sink):
    broker.acknowledges = False
    sink = open_sink(broker)
    wait_until(lambda: broker.messages, "a connection")
    for number in range(5000):
        sink.write(decided("cat" if number % 2 else "dog", event=True, number=number))
    time.sleep(0.3)
    assert len(broker.messages) <= MAX_UNACKNOWLEDGED
    assert 5000 - EVENTS - MAX_UNACKNOWLEDGED <= sink.dropped <= 5000 - EVENTS
    broker.acknowledges = True
    broker.drop()
    wait_until(lambda: 4999 in frames(broker), "the last event")


def test_events_that_were_not_acknowledged_are_sent_again(broker, open_sink):
    broker.acknowledges = False
    sink = open_sink(broker)
    for number in range(3):
        sink.write(decided(event=True, number=number))
    wait_until(lambda: len(frames(broker)) == 3, "three events")
    broker.acknowledges = True
    broker.drop()
    wait_until(lambda: len(frames(broker)) == 6, "the same events")
    assert frames(broker) == [0, 1, 2, 0, 1, 2]
    assert sink.dropped == 0


def test_a_refused_user_is_a_problem_in_one_sentence_without_the_password(broker, open_sink):
    broker.connack = b"\x20\x02\x00\x05"
    sink = open_sink(broker, username="bob", password="s3cret")  # noqa: S106
    wait_until(lambda: sink.problem and "refuses" in sink.problem, "the refusal")
    assert "user bob" in sink.problem
    assert "s3cret" not in sink.problem
    broker.connack = b"\x20\x02\x00\x00"
    wait_until(lambda: sink.problem is None and states(broker), "the connection")


def test_a_broker_that_is_down_at_the_start_is_found_later(open_sink):
    sink = open_sink(away := types.SimpleNamespace(port=free_port()))
    assert sink.problem
    sink.write(decided(event=True))
    wait_until(lambda: "refuses connections" in (sink.problem or ""), "the problem")
    with contextlib.closing(SmallBroker(away.port)) as late:
        wait_until(lambda: late.on("edgekit/door/event") and states(late), "messages")
        wait_until(lambda: sink.problem is None, "no problem")


@pytest.mark.parametrize("seed", range(8))
def test_a_peer_that_talks_nonsense_is_left_and_tried_again(broker, open_sink, seed, monkeypatch):
    monkeypatch.setattr(connection, "HELLO_TIMEOUT_S", 0.5)
    noise = np.random.default_rng(seed).integers(0, 256, 2000, np.uint8).tobytes()
    if seed % 2:
        broker.connack = noise
    else:
        broker.after_connack = noise
    sink = open_sink(broker)
    wait_until(lambda: len(broker.hellos) > 2 or (seed % 2 == 0 and states(broker)), "another attempt")
    broker.connack, broker.after_connack = b"\x20\x02\x00\x00", b""
    broker.messages.clear()
    broker.drop()
    wait_until(lambda: states(broker) and sink.problem is None, "a sound connection")


def test_a_huge_message_is_not_taken(broker, open_sink):
    broker.after_connack = b"\x30\xff\xff\xff\x7f" + bytes(1 << 20)
    sink = open_sink(broker)
    wait_until(lambda: "more than 65536 bytes" in (sink.problem or ""), "the problem")


def test_closing_says_what_is_left_and_offline_and_ends_the_thread(broker, open_sink):
    before = set(threading.enumerate())
    sink = open_sink(broker)
    wait_until(lambda: states(broker), "a connection")
    sink.write(decided(event=True, number=3))
    sink.close()
    sink.close()
    sink.write(decided("dog"))
    assert broker.on("edgekit/door/availability")[-1] == b"offline"
    assert states(broker)[-1]["label"] == "cat"
    assert frames(broker)[-1] == 3
    assert set(threading.enumerate()) <= before | {broker.thread}


def test_closing_without_a_broker_counts_what_was_never_sent(open_sink):
    sink = open_sink(types.SimpleNamespace(port=free_port()))
    sink.write(decided(event=True))
    sink.close()
    assert sink.dropped == 1


def test_labels_of_strangers_stay_inside_the_json(broker, open_sink):
    sink = open_sink(broker)
    nasty = '"},\n{{ states("x") }} \x1b[31m \udcff 猫'
    sink.write(decided(nasty, event=True, score=float("nan")))
    wait_until(lambda: broker.on("edgekit/door/event"), "the event")
    wait_for_state(broker, label='"}, {{ states("x") }}  [31m   猫', score=None)
