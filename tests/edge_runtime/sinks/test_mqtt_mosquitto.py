"""The MQTT sink against mosquitto: a second client sees what it should through deaths, pauses, TLS and passwords."""

import contextlib
import json
import shutil
import signal
import subprocess
import threading

import cv2
import numpy as np
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from edge_runtime.results import SourceState, StateChange
from edge_runtime.sinks.mqtt.options import MqttOptions, parse_mqtt_url
from edge_runtime.sinks.mqtt.sink import MqttSink
from support.files import count_open_files
from support.http import certificate
from support.mqtt import Mosquitto, needs_mosquitto
from support.programs import killed_code
from support.results import decided
from support.waiting import wait_until

pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed (extra mqtt)")
pytestmark = needs_mosquitto


class Listener:
    """A second client, as Home Assistant would be: the last payload of each topic, and whether it was retained."""

    def __init__(self, port):
        self.last = {}
        self.client = Client(CallbackAPIVersion.VERSION2)
        self.client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self.client.on_message = self._keep
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def _keep(self, _client, _userdata, message):
        self.last[message.topic] = message.payload, message.retain

    def payload(self, topic):
        return self.last.get(topic, (b"", False))[0]

    def label(self):
        return json.loads(self.payload("edgekit/door/state") or "{}").get("label")

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def start_broker(tmp_path, stack):
    def start(*lines):
        broker = Mosquitto(tmp_path, *lines)
        stack.callback(broker.stop)
        broker.start()
        return broker

    return start


@pytest.fixture
def broker(start_broker):
    return start_broker()


@pytest.fixture
def listen(stack):
    return lambda port: stack.enter_context(contextlib.closing(Listener(port)))


@pytest.fixture
def open_sink(stack):
    def make(port, **options):
        plain = {"host": "127.0.0.1", "port": port, "retry_s": (0.1, 0.5), **options}
        return stack.enter_context(MqttSink(MqttOptions(**plain), name="door", labels=("cat", "dog")))

    return make


def wait_for_problem(sink, part, what="the problem"):
    wait_until(lambda: part in (sink.problem or ""), what)


def wait_for_connection(sink):
    wait_until(lambda: sink.problem is None, "the connection")


def test_who_comes_later_sees_what_is_true(broker, open_sink, listen):
    sink = open_sink(broker.port)
    sink.write(StateChange("cam", SourceState.CONNECTED, 0.0))
    sink.write(decided(event=True))
    wait_until(lambda: listen(broker.port) and sink.problem is None, "the connection")
    late = listen(broker.port)
    wait_until(lambda: late.label() == "cat", "the state")
    wait_until(lambda: late.payload("edgekit/door/source") == b"connected", "the source")
    assert late.last["edgekit/door/availability"] == (b"online", True)
    described = json.loads(late.payload("homeassistant/device/edgekit_door/config"))
    assert described["components"]["label"]["state_topic"] == "edgekit/door/state"
    even_later = listen(broker.port)
    wait_until(lambda: even_later.label() == "cat", "the retained state")
    assert even_later.last["edgekit/door/state"][1]
    assert "edgekit/door/event" not in even_later.last
    sink.close()
    wait_until(lambda: late.payload("edgekit/door/availability") == b"offline", "the goodbye")


def test_the_broker_says_offline_when_the_process_is_killed(broker, listen):
    program = (
        "import time\n"
        "from edge_runtime.sinks.mqtt.options import parse_mqtt_url\n"
        "from edge_runtime.sinks.mqtt.sink import MqttSink\n"
        f"sink = MqttSink(parse_mqtt_url('mqtt://127.0.0.1:{broker.port}'), name='door', labels=('a', 'b'))\n"
        "print('ready', flush=True)\ntime.sleep(600)\n"
    )
    listener = listen(broker.port)
    with killed_code(program):
        wait_until(lambda: listener.payload("edgekit/door/availability") == b"online", "the process")
    wait_until(lambda: listener.payload("edgekit/door/availability") == b"offline", "the last will")


def test_a_broker_that_starts_late_and_dies_and_comes_back_knows_the_state_again(tmp_path, stack, open_sink, listen):
    broker = Mosquitto(tmp_path)
    stack.callback(broker.stop)
    sink = open_sink(broker.port)
    sink.write(decided(event=True))
    wait_for_problem(sink, "refuses connections")
    broker.start()
    first = listen(broker.port)
    wait_until(lambda: first.label() == "cat", "the state")
    broker.stop()
    wait_until(lambda: sink.problem is not None, "the problem after the death")
    sink.write(decided("dog"))
    broker.start()
    second = listen(broker.port)
    wait_until(lambda: second.label() == "dog", "the state after the death")
    wait_until(lambda: second.payload("edgekit/door/availability") == b"online", "the availability")
    wait_for_connection(sink)


def test_a_broker_that_stands_still_does_not_hold_up_the_camera(broker, open_sink, listen):
    listener = listen(broker.port)
    sink = open_sink(broker.port, keepalive_s=2)
    sink.write(decided(event=True))
    wait_until(lambda: listener.label() == "cat", "the state")
    broker.process.send_signal(signal.SIGSTOP)
    # A write that waited for the broker would never come back, since nobody wakes it before the end.
    for number in range(3000):
        sink.write(decided("dog" if number % 2 else "cat", event=True, number=number))
    assert sink.dropped > 2000
    wait_until(lambda: sink.problem is not None, "the problem")
    broker.process.send_signal(signal.SIGCONT)
    again = listen(broker.port)
    wait_until(lambda: again.label() == "dog" and sink.problem is None, "the newest state")


def test_a_wrong_password_is_one_sentence_and_the_right_one_works(tmp_path, start_broker, open_sink):
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("mosquitto_passwd is not installed")
    passwords = tmp_path / "passwords"
    subprocess.run([tool, "-b", "-c", str(passwords), "bob", "right-1"], check=True, capture_output=True)
    broker = start_broker("allow_anonymous false", f"password_file {passwords}")
    with open_sink(broker.port, username="bob", password="wrong-2") as wrong:  # noqa: S106
        wait_for_problem(wrong, "refuses user bob")
        assert "wrong-2" not in wrong.problem
    with open_sink(broker.port) as nobody:
        wait_for_problem(nobody, "without a user name")
    wait_for_connection(open_sink(broker.port, username="bob", password="right-1"))  # noqa: S106


def test_tls_works_with_the_authority_named_and_not_otherwise(tmp_path, start_broker, open_sink):
    cert, key = certificate(tmp_path)
    broker = start_broker("allow_anonymous true", f"certfile {cert}", f"keyfile {key}")
    with open_sink(broker.port, host="localhost", tls=True, ca_file=cert) as trusting:
        wait_for_connection(trusting)
    with open_sink(broker.port, host="localhost", tls=True) as stranger:
        wait_for_problem(stranger, "certificate is not accepted")
    with open_sink(broker.port, tls=True, ca_file=cert) as other_name:
        wait_for_problem(other_name, "certificate is not accepted", "the refusal of another name")
    wait_for_problem(open_sink(broker.port), "closed the connection", "the refusal without TLS")


def test_tls_to_a_broker_without_it_says_so(broker, open_sink):
    sink = open_sink(broker.port, tls=True)
    wait_until(lambda: "no secure connection" in (sink.problem or "") or "reset" in (sink.problem or ""), "the problem")


def test_two_cameras_of_one_name_are_told_so(broker, open_sink):
    first, second = open_sink(broker.port), open_sink(broker.port)
    wait_until(lambda: "another name" in f"{first.problem}{second.problem}", "the problem")


def test_reconnects_leave_no_thread_and_no_file(broker, open_sink):
    def held():
        return count_open_files(), threading.active_count()

    sink = open_sink(broker.port)
    wait_for_connection(sink)
    before = held()
    for _ in range(5):
        broker.stop()
        wait_until(lambda: sink.problem is not None, "the problem")
        broker.start()
        wait_for_connection(sink)
    assert held() == before


def test_the_address_of_the_command_line_leads_there(broker, listen):
    options = parse_mqtt_url(f"mqtt://127.0.0.1:{broker.port}/home/cams")
    listener = listen(broker.port)
    with MqttSink(options, name="door", labels=("cat", "dog")):
        wait_until(lambda: listener.payload("home/cams/door/availability") == b"online", "the availability")


def test_images_are_sent_only_where_asked_for_small_and_not_retained(broker, open_sink, listen):
    image_hwc_rgb_u8 = np.zeros((960, 1280, 3), np.uint8)
    image_hwc_rgb_u8[:, :, 0] = 200
    listener = listen(broker.port)
    silent = open_sink(broker.port)
    silent.write(decided(event=True), image_hwc_rgb_u8)
    wait_until(lambda: listener.payload("edgekit/door/event"), "an event")
    silent.close()
    assert "edgekit/door/frame" not in listener.last
    sink = open_sink(broker.port, frames=True)
    sink.write(decided(event=True), image_hwc_rgb_u8)
    image_hwc_rgb_u8[:] = 0  # the camera goes on
    wait_until(lambda: listener.payload("edgekit/door/frame"), "an image")
    jpeg = np.frombuffer(listener.payload("edgekit/door/frame"), np.uint8)
    decoded_hwc_bgr_u8 = cv2.imdecode(jpeg, cv2.IMREAD_COLOR)
    assert decoded_hwc_bgr_u8.shape == (480, 640, 3)
    assert decoded_hwc_bgr_u8[..., 2].mean() == pytest.approx(200, abs=3)
    late = listen(broker.port)
    wait_until(lambda: late.payload("edgekit/door/availability"), "what is retained")
    assert "edgekit/door/frame" not in late.last
