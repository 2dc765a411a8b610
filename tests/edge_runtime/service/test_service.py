"""``edge-run service``: systemd reads back what was meant, and the unit has no right that it does not need."""

import ast
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.cli import camera
from edge_runtime.cli_support import Option
from edge_runtime.commands.service import ServiceJob, run_service
from edge_runtime.errors import OutputError, UsageError
from edge_runtime.service import unit
from edge_runtime.service.needs import Needs, quote_word, source_kind
from edge_runtime.testing import write_tiny_bundle
from support.images import plain_image, write_video
from support.programs import run

SYSTEMD = Path("/lib/systemd/systemd")
TEXTS = st.text(st.characters(min_codepoint=1, exclude_categories=("Cs",)), max_size=30)


@pytest.fixture
def place():
    """A folder that everybody may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        write_tiny_bundle(folder / "pets")
        yield folder


@pytest.fixture
def write(place, monkeypatch):
    """Write a unit for ``pets`` and a camera command line, and give its text."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("EDGEKIT_CACHE", str(place / "cache"))

    def call(*arguments, environment=None, memory_max="512M", name="pets"):
        job = ServiceJob(name, place / f"{name}.service", True, memory_max, environment)
        run_service(camera, ["pets", *arguments], job)
        return (place / f"{name}.service").read_text()

    return call


def values(text, key):
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


def split_words(line):
    """Read a line as systemd.syntax(7) says, as far as the units use it."""
    words = []
    for quoted, plain in re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line):
        raw = re.sub(r"\\x(..)|\\(.)", _unescape, quoted) if quoted or not plain else plain
        words.append(os.fsdecode(raw.replace("%%", "%").encode("utf-8", "surrogateescape")))
    return words


def _unescape(match):
    if match[1]:
        return bytes.fromhex(match[1]).decode("utf-8", "surrogateescape")
    return {"n": "\n", "t": "\t", "r": "\r"}.get(match[2], match[2])


def command(text):
    (line,) = values(text, "ExecStart")
    assert line.startswith(":/")
    return split_words(line[1:])


@given(st.lists(TEXTS.filter(lambda text: "\x85" not in text)))
def test_words_are_read_back(words):
    line = " ".join(map(quote_word, words))
    assert "\n" not in line
    assert [word.encode() for word in split_words(line)] == [word.encode() for word in words]


@pytest.mark.skipif(not SYSTEMD.exists() or not shutil.which("setpriv"), reason="needs systemd and setpriv")
def test_systemd_itself_reads_the_words_back(place):
    words = [
        *(
            "plain",
            "a b",
            "",
            "100%",
            "%h %% %",
            "$HOME ${HOME} $$",
            'a "b"',
            "it's",
            "\\",
            "\\n",
            ";",
            "a;b",
            "#",
            "-x",
        ),
        *("é 猫 😀", os.fsdecode(b"caf\xe9"), "tab\tline\nreturn\r", "\x01\x7f", "\u2028\u0085", "=", "~", "*", "@"),
    ]
    (place / "words.service").write_text(
        f"[Service]\nExecStart=:/bin/echo {' '.join(map(quote_word, words))}\n", "utf-8", "surrogateescape"
    )
    # A user manager that only loads units; it refuses to run as root.
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
    (place / "run").mkdir(mode=0o777)
    (place / "run").chmod(0o777)
    environment = {"SYSTEMD_UNIT_PATH": f"{place}:", "XDG_RUNTIME_DIR": f"{place}/run", "HOME": f"{place}/run"}
    program = [*drop, str(SYSTEMD), "--test", "--user", "--unit=words.service"]
    done = subprocess.run(program, env=os.environ | environment, capture_output=True, timeout=120, check=False)
    found = re.search(rb"Unit words.service:.*?Command Line: /bin/echo (.*?)\n", done.stdout, re.DOTALL)
    if not found:
        pytest.skip(f"systemd --test does not run here: {done.stderr.decode(errors='replace')[-200:]}")
    # It prints words as a shell would take them, in double quotes with C escapes where they need quotes.
    shown = re.findall(rb'"((?:[^"\\]|\\.)*)"|(\S+)', found[1])
    read = [_c_unescape(quoted) if quoted or not plain else plain for quoted, plain in shown]
    assert read == [os.fsencode(word) for word in words]


def _c_unescape(quoted):
    literal = re.sub(rb"\\([$`])", rb"\1", quoted).decode("latin-1")
    return ast.literal_eval(f'"{literal}"').encode("latin-1")


COMMANDS = {
    "usb": (["--source", "/dev/video0", "--ignore", 'odd "label" 100% $HOME'], 1.7),
    "file": (["--source", "clip.mp4", "--loop"], 1.3),
    "page": (["--source", "0", "--web", "8080", "--output", "log.jsonl", "--save-frames", "frames"], 1.7),
    "stream": (["--source", "rtsp://host/1", "--web", "0.0.0.0:80", "--web-token-file", "token"], 1.9),
    "broker": (["--source", "picamera", "--mqtt", "mqtts://me@host", "--mqtt-password-file", "token"], 1.9),
}


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize("name", COMMANDS)
def test_systemd_accepts_the_unit_and_finds_little_to_attack(write, place, name):
    arguments, limit = COMMANDS[name]
    for file in ("clip.mp4", "token"):
        (place / file).write_text("x")
    write(*arguments, name=name)
    path = place / f"{name}.service"
    done = run("systemd-analyze", "verify", path)
    assert (done.returncode, [line for line in done.stderr.splitlines() if path.name in line]) == (0, [])
    done = run("systemd-analyze", "security", "--offline=true", "--no-pager", path)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot judge a file")
    exposure = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
    assert exposure, done.stderr
    assert float(exposure[1]) <= limit


def test_the_command_is_the_one_that_was_asked_for(write, place):
    text = write("--source", "0", "--ignore", 'a "b" 100% $X', "--ignore=c d", "--no-discovery", "--wait")
    start = command(text)
    options = ["--source=0", '--ignore=a "b" 100% $X', "--ignore=c d", "--no-discovery", "--wait", "--every=event"]
    assert start[1:] == ["camera", str(place / "pets"), *options]
    again = camera.make_context("camera", start[2:]).params
    assert again["ignore"] == ('a "b" 100% $X', "c d")
    assert (again["discovery"], again["wait"]) == (False, True)


def test_it_writes_below_its_own_folders_only(write):
    text = write("--output", "log/a.jsonl", "--save-frames", "/var/log/pets/frames")
    assert command(text)[-2:] == ["--output=/var/lib/pets/log/a.jsonl", "--save-frames=/var/log/pets/frames"]
    assert values(text, "StateDirectory") == values(text, "LogsDirectory") == ["pets"]
    # Each frame is in the file; twice would wear out the card.
    assert values(text, "StandardOutput") == ["null"]
    for outside in ("/etc/x", "../x", "/var/lib/petsx/a", "/var/lib/pets", "a/../../../x", "."):
        with pytest.raises(UsageError, match="only below /var/lib/pets"):
            write("--output", outside)


def test_rights_follow_from_the_source(write, place):
    (place / "clip.mp4").write_text("x")
    text = write("--source", "clip.mp4")
    assert values(text, "PrivateDevices") == values(text, "PrivateNetwork") == ["yes"]
    shown = values(text, "BindReadOnlyPaths")  # and the program's own folders, where the unit hides them
    assert [path for path in shown if Path(path).is_relative_to(place)] == [f"{place}/clip.mp4", f"{place}/pets"]
    text = write("--source", "picamera")
    assert values(text, "DeviceAllow") == ["char-video4linux rw", "char-media rw", "char-dma_heap rw"]
    assert values(text, "RestrictAddressFamilies") == ["AF_UNIX AF_NETLINK"]
    text = write("--source", "0", "--web", "127.0.0.1:8080")
    assert values(text, "IPAddressAllow") == ["localhost"]
    text = write("--source", "http://host/x")
    assert values(text, "After") == ["network-online.target"]
    assert values(text, "IPAddressDeny") == values(text, "DeviceAllow") == []


def test_secrets_stay_out(write, place):
    (place / "secret").write_text("hunter2")
    text = write("--mqtt", "mqtt://me@host", "--mqtt-password-file", "secret")
    assert "hunter2" not in text
    assert "--mqtt-password-file=%d/mqtt-password" in values(text, "ExecStart")[0]
    assert values(text, "LoadCredential") == [f"mqtt-password:{place}/secret"]
    for option, address in (
        ("--source", "rtsp://me:hunter2@host/1"),
        ("--source", "http://host/x?token=hunter2"),
        ("--source", "http://host/x?loginpas=hunter2"),
        ("--source", "http://hunter2@host/x"),
        ("--source", "rtsp://host/user=admin_password=hunter2_channel=1"),
        ("--mqtt", "mqtt://me:hunter2@host"),
        ("--webhook", "https://me:hunter2@host"),
    ):
        with pytest.raises(UsageError, match="password in a unit file") as refused:
            write(option, address)
        assert "hunter2" not in str(refused.value)
    (place / "env").write_text("EDGEKIT_SOURCE='rtsp://me:hunter2@host/1'\n")
    text = write(environment=place / "env")
    assert values(text, "EnvironmentFile") == [str(place / "env")]
    assert "AF_INET" in values(text, "RestrictAddressFamilies")[0]
    assert not values(text, "DeviceAllow")
    (place / "env").write_text("EDGEKIT_WEBHOOK=https://me:hunter2@host\n")
    text = write("--source", "0", environment=place / "env")
    assert "AF_INET" in values(text, "RestrictAddressFamilies")[0]
    assert not values(text, "IPAddressDeny")


@pytest.mark.parametrize(("mode", "says"), [(0o600, None), (0o640, "read"), (0o622, "change")])
def test_a_file_of_variables_that_others_reach_is_said(write, place, capsys, mode, says):
    (place / "env").write_text("EDGEKIT_SOURCE=0\n")
    (place / "env").chmod(mode)
    write(environment=place / "env")
    warned = f"warning: others can {says} {place / 'env'}; run chmod 600 on it" in capsys.readouterr().err
    assert warned == (says is not None)


def test_each_file_and_address_of_the_camera_declares_what_a_service_needs():
    options = [option for option in camera.params if isinstance(option, Option)]
    declared = {option.name for option in options if option.resource}
    paths = {option.name for option in options if isinstance(option.type, click.Path)}
    addresses = {option.name for option in options if option.envvar or (option.metavar or "").endswith(("URL", "PORT"))}
    assert declared == paths | addresses


@pytest.mark.parametrize("arguments", [["--sorce", "0"], ["--top-k", "x"], ["--source"]])
def test_a_camera_command_that_would_not_start_is_refused(write, arguments):
    with pytest.raises(click.UsageError):
        write(*arguments)


def test_what_cannot_be_is_one_sentence(write, place):
    for arguments in (["--source", "none.mp4"], ["--mqtt-password-file", "none"], ["--labels", "none"]):
        with pytest.raises(UsageError):
            write(*arguments)
    for name in ("", "a b", "../x", "x" * 64, "-x"):
        with pytest.raises(UsageError, match="--name"):
            write(name=name)
    with pytest.raises(UsageError, match="--memory"):
        write(memory_max="lots\nExecStartPre=/bin/sh")
    (place / "odd:name").mkdir()
    with pytest.raises(OutputError, match="already exists"):
        run_service(camera, ["pets"], ServiceJob("pets", place / "pets", False, "1G", None))


def test_a_secret_may_be_for_root_only(write, monkeypatch):
    real = Path.stat

    def stat(path, **options):
        if path.name == "for-root":
            raise PermissionError(13, "Permission denied")
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    text = write("--mqtt", "mqtt://me@host", "--mqtt-password-file", "/etc/edgekit/for-root")
    assert values(text, "LoadCredential") == ["mqtt-password:/etc/edgekit/for-root"]
    with pytest.raises(UsageError, match="Permission denied"):
        write("--mqtt-ca", "/etc/edgekit/for-root")


@pytest.mark.parametrize("checkout", ["/tmp/a/clone", "/home/pi/clone", "/opt/clone"])  # noqa: S108
def test_the_program_is_found_wherever_it_lies(checkout):
    """PrivateTmp and ProtectHome hide a checkout, so the unit binds it."""
    program = (f"{checkout}/.venv/bin/edge-run",)
    folders = unit.folders_of(checkout, f"{checkout}/.venv")
    text = unit.render(unit.Service("pets", program, folders, Needs(), False, "1G", None))
    assert values(text, "BindReadOnlyPaths") == ([] if checkout.startswith("/opt") else [checkout])


def test_hidden_folders_are_shown_once():
    paths = map(Path, ("/home/pi/e", "/home/pi/e/models/x", "/opt/x", "/usr", "/root/m", "/homely", "/home/pi/e2"))
    assert unit.hidden_paths(paths) == [Path("/home/pi/e"), Path("/home/pi/e2"), Path("/root/m")]


def test_groups_that_this_machine_lacks_are_not_named():
    service = unit.Service("pets", ("/bin/true",), (), Needs(camera="v4l2"), True, "1G", None)
    assert values(unit.render(service, lambda _name: False), "SupplementaryGroups") == []
    assert values(unit.render(service, lambda name: name != "apex"), "SupplementaryGroups") == ["video plugdev"]


def test_kinds_of_source():
    kinds = {"0": "v4l2", "/dev/v4l/by-id/x": "v4l2", "picamera:1": "picamera", "RTSP://x": "network", "a.mp4": "file"}
    assert {text: source_kind(text) for text in kinds} == kinds


def test_the_started_command_tells_systemd_how_it_is(write, place):
    """The unit's own command, with a socket where systemd's would be."""
    write_video(place / "clip.avi", [plain_image(90, 32, 32)] * 50, fps=25)
    start = command(write("--source", "clip.avi", "--loop"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(place / "notify"))
        manager.settimeout(0.2)
        environment = {"NOTIFY_SOCKET": str(place / "notify"), "WATCHDOG_USEC": "300000"}
        process = subprocess.Popen(start, env=os.environ | environment, stdout=subprocess.DEVNULL)
        heard = []
        try:
            listen(manager, process, heard, lambda: heard.count("WATCHDOG=1") >= 3)
            process.send_signal(signal.SIGTERM)
            listen(manager, process, heard, lambda: "STOPPING=1" in heard)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
    assert heard[0].startswith("READY=1")


def listen(manager, process, heard, is_enough):
    """Collect messages until there are enough, for a minute at most."""
    until_s = time.monotonic() + 60
    while not is_enough():
        assert time.monotonic() < until_s, heard
        try:
            heard.append(manager.recv(4096).decode())
        except TimeoutError:
            assert process.poll() is None, heard
