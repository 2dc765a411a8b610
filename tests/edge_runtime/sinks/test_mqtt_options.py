"""Addresses of brokers: what is written comes back, what is wrong is one sentence, and no password is ever shown."""

import re
import string
import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.errors import UsageError
from edge_runtime.sinks.mqtt.connection import Message, Outbox
from edge_runtime.sinks.mqtt.options import MqttOptions, check_topic, parse_mqtt_url, slug, tls_context, with_password

PRINTABLE = st.characters(codec="utf-8", exclude_categories=("C", "Z"))
WORDS = st.text(PRINTABLE, min_size=1, max_size=20)
SECRETS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).map(
    lambda text: f"pw!{text}!pw"
)
HOSTS = st.sampled_from(["broker.local", "10.0.0.7", "my_pi", "bücher.example", "::1", "fe80::1"])
TOPICS = st.lists(st.text(string.ascii_letters + "-_ ü", min_size=1, max_size=9), min_size=1, max_size=4).map("/".join)


@given(st.booleans(), HOSTS, st.integers(1, 65535), WORDS, SECRETS, TOPICS.filter(lambda t: t == t.strip("/")))
def test_an_address_says_what_was_put_into_it_and_shows_no_password(tls, host, port, user, password, prefix):
    credentials = ":".join(urllib.parse.quote(text, safe="") for text in (user, password))
    where = f"[{host}]" if ":" in host else host
    scheme = "mqtts" if tls else "mqtt"
    options = parse_mqtt_url(f"{scheme}://{credentials}@{where}:{port}/{urllib.parse.quote(prefix)}")
    assert options == MqttOptions(host, port, tls, user, password, prefix)
    assert password not in repr(options)
    assert password not in options.shown


def attempt(text):
    try:
        return parse_mqtt_url(text)
    except UsageError as error:
        return str(error)


@given(st.text(max_size=60) | st.text(max_size=40).map(lambda text: f"mqtt://{text}"))
def test_any_text_is_an_address_or_a_usage_error(text):
    result = attempt(text)
    if isinstance(result, str):
        assert result.isprintable()
    else:
        assert result.host
        assert 0 < result.port < 65536
        assert check_topic(result.prefix) == result.prefix


@given(
    st.text(min_size=1, max_size=12).map(lambda text: f"S3CRET{text}S3CRET"), st.sampled_from(["h", "h:x", "", "+#"])
)
def test_a_password_that_breaks_the_address_is_not_in_the_message(password, host):
    result = attempt(f"mqtt://bob:{password}@{host}/a/+/b")
    assert "S3CRET" not in (result if isinstance(result, str) else result.shown)


def test_what_is_left_out_has_a_default():
    assert parse_mqtt_url("mqtt://broker") == MqttOptions("broker")
    assert parse_mqtt_url("mqtts://broker/").port == 8883
    assert parse_mqtt_url("mqtt://bob@broker").username == "bob"
    assert parse_mqtt_url("mqtts://bob@[::1]").shown == "mqtts://bob@[::1]:8883"


@pytest.mark.parametrize(
    "text",
    [
        *("", "broker", "http://broker", "mqtt://", "mqtt://broker:0", "mqtt://broker:70000", "mqtt://:secret@broker"),
        "mqtt://bro ker",
        *(f"mqtt://broker/{path}" for path in ("a/+/b", "a/#", "%23", "$SYS", "a//b", "a%00b", "a%0Ab", "%ff")),
        "mqtt://broker?x=1",
        f"mqtt://{'a' * 64}.example",
        f"mqtt://broker/{'a' * 300}",
        "mqtt://bob:123/rest@broker",
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(UsageError, match="expected"):
        parse_mqtt_url(text)


@given(st.text(max_size=80))
def test_a_name_becomes_one_level_and_an_identifier(name):
    part = slug(name)
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,48}", part)
    assert slug(name) == part


def test_names_stay_readable_and_apart():
    assert slug("Front door") == "Front_door"
    assert slug("Küche") == "Kuche"
    assert slug("a/b+c#d\0e") == "a_b_c_d_e"
    assert slug("猫") != slug("犬")
    assert slug("x" * 60) != slug("x" * 61)


def test_a_password_comes_from_a_file_the_address_the_environment_or_systemd(tmp_path):
    bob = MqttOptions("broker", username="bob")
    file = tmp_path / "password"
    file.write_text("from-file\n")
    (tmp_path / "mqtt-password").write_text("from-systemd")
    systemd = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    environment = {"EDGEKIT_MQTT_PASSWORD": "from-environment", **systemd}
    both = parse_mqtt_url("mqtt://bob:from-address@broker")
    places = [(bob, file, environment), (both, None, environment), (bob, None, environment), (bob, None, systemd)]
    found = [with_password(*place).password for place in places]
    assert found == ["from-file", "from-address", "from-environment", "from-systemd"]
    assert with_password(bob, None, {}).password is None
    with pytest.raises(UsageError, match="needs a user name"):
        with_password(MqttOptions("broker"), None, environment)


@pytest.mark.parametrize("content", [b"", b"two\nlines\n", b"\xff\xfe", b"x" * 5000, None])
def test_a_password_file_that_cannot_be_one_is_refused(tmp_path, content):
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match="secret") as refused:
        with_password(MqttOptions("broker", username="bob"), file, {})
    assert "lines" not in str(refused.value)


def test_certificates_are_checked_before_anything_is_sent(tmp_path):
    nonsense = tmp_path / "ca.pem"
    nonsense.write_text("no certificate")
    assert tls_context(MqttOptions("broker")) is None
    for options, says in (
        ({"ca_file": nonsense}, "write mqtts://"),
        ({"tls": True, "ca_file": nonsense}, "PEM"),
        ({"tls": True, "ca_file": tmp_path / "missing.pem"}, "PEM"),
        ({"tls": True, "cert_file": nonsense}, "PEM"),
        ({"tls": True, "key_file": nonsense}, "needs its certificate"),
    ):
        with pytest.raises(UsageError, match=says):
            tls_context(MqttOptions("broker", **options))


def test_the_outbox_keeps_the_newest_of_a_topic_and_the_last_events():
    outbox = Outbox(events=2)
    outbox.keep("state", lambda: b"old")
    outbox.keep("state", lambda: b"new")
    for number in range(4):
        outbox.add_event(Message("event", bytes([number]), retain=False))
    assert outbox.dropped == 2
    taken = [outbox.take(100.0) for _ in range(4)]
    assert [message and message.payload for message in taken] == [b"new", b"\x02", b"\x03", None]
    outbox.touch("state", 10.0)
    assert outbox.take(105.0) is None
    assert outbox.wait_s(105.0) == 5.0
    assert outbox.take(110.0) == Message("state", b"new", retain=True)
    outbox.requeue([message for message in taken if message])
    assert [outbox.take(111.0), outbox.take(111.0)] == [taken[1], taken[2]]
    outbox.resend()
    assert outbox.take(112.0) == Message("state", b"new", retain=True)
    assert outbox.wait_s(112.0) == float("inf")
