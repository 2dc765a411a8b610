"""What systemd hears: the messages, on a real socket, and nothing that could stop a camera."""

import os
import secrets
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.service.notify import Notifier


class Manager:
    """The receiving end, as systemd has it."""

    def __init__(self, address):
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.setblocking(False)

    def heard(self):
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(8192).decode())
            except BlockingIOError:
                return messages

    def close(self):
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    path = str(tmp_path / "notify")
    found = Manager(path if request.param == "path" else f"@edgekit-{secrets.token_hex(8)}")
    yield found
    found.close()


def test_a_life_is_told_in_order(manager):
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}
    with Notifier.from_environment(environment) as notifier:
        assert notifier.watchdog_s == 30
        notifier.ready("model loaded")
        notifier.alive()
        notifier.status("cat 0.98")
        notifier.status("cat 0.98")
    assert manager.heard() == ["READY=1\nSTATUS=model loaded", "WATCHDOG=1", "STATUS=cat 0.98", "STOPPING=1"]


def test_alive_is_sent_three_times_in_a_watchdog_interval(manager):
    now_s = 1000.0
    notifier = Notifier(manager.address, 3.0, clock=lambda: now_s)
    times_s = []
    for step in range(601):
        now_s = 1000.0 + step / 100
        notifier.alive()
        times_s += [now_s] * len(manager.heard())
    assert times_s == [1000.0, 1001.0, 1002.0, 1003.0, 1004.0, 1005.0, 1006.0]
    notifier.close()


def test_no_results_no_messages(manager):
    notifier = Notifier(manager.address, 0.000003)
    notifier.ready()
    assert manager.heard() == ["READY=1"]
    notifier.close()
    notifier.alive()
    notifier.status("closed")
    notifier.close()
    assert manager.heard() == []


@pytest.mark.parametrize(
    ("address", "watchdog_us"),
    [
        *((None, None), ("", None), ("@", None), ("vsock:2:1234", "1"), ("/nowhere/notify", "1000")),
        *(("/" + "long" * 100, "1000"), (None, "1000")),
    ],
)
def test_without_a_listening_manager_nothing_happens(address, watchdog_us):
    settings = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": watchdog_us}
    environment = {name: value for name, value in settings.items() if value is not None}
    with Notifier.from_environment(environment) as notifier:
        notifier.ready("status")
        notifier.alive()
        notifier.status("text")


@pytest.mark.parametrize("interval_us", ["", "0", "-5", "soon", "1e6", "²"])
def test_an_interval_that_is_none_is_no_watchdog(manager, interval_us):
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": interval_us}
    with Notifier.from_environment(environment) as notifier:
        assert notifier.watchdog_s is None
        notifier.alive()
    assert manager.heard() == ["STOPPING=1"]


def test_the_watchdog_of_another_process_is_not_fed(manager):
    environment = {"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    with Notifier.from_environment(environment) as notifier:
        assert notifier.watchdog_s is None


def test_a_manager_that_does_not_read_does_not_block(manager):
    notifier = Notifier(manager.address)
    for number in range(5000):
        notifier.status(f"number {number}")
    assert 0 < len(manager.heard()) < 5000
    # What was lost is not remembered as said.
    notifier.status("number 4999")
    assert manager.heard() == ["STATUS=number 4999"]
    notifier.close()


def test_alive_that_was_lost_is_tried_again_at_once(tmp_path):
    address = str(tmp_path / "late")
    notifier = Notifier(address, 60.0)
    notifier.alive()
    late = Manager(address)
    notifier.alive()
    notifier.alive()
    assert late.heard() == ["WATCHDOG=1"]
    late.close()
    notifier.close()


@given(st.text())
def test_no_status_can_forge_another_message(text):
    manager = Manager(f"@edgekit-{secrets.token_hex(8)}")
    notifier = Notifier(manager.address)
    notifier.status(text)
    (message,) = manager.heard()
    assert message.startswith("STATUS=")
    assert len(message.splitlines()) == 1
    assert len(message) <= 207
    notifier.close()
    manager.close()
