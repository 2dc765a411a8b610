"""The camera's line on a terminal: one line, calm, that fits, and a real terminal in the end."""

import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios

from hypothesis import given
from hypothesis import strategies as st

import edge_runtime.sinks.console as console
from edge_runtime.pipeline.health import Health, SinkHealth, Snapshot
from edge_runtime.results import Decision, Failed, LatencyMs, SourceState, StateChange
from edge_runtime.sinks.console import ConsoleSink, status_line
from edge_runtime.sinks.rows import FrameSink, open_frame_sink
from edge_runtime.text import columns
from support.results import classified

CLEAR = "\r\x1b[K"


def answer(label="cat", decision=None, *, rejected=False):
    latency = LatencyMs(1.0, 2.0, 9.5)
    options = {"number": 7, "at": 1700000000.0, "age_ms": 41.0, "latency": latency, "others": ()}
    return classified(label, 0.875, decision=decision, rejected=rejected, **options)


def snapshot(*results, problem=None):
    health = Health()
    for result in results:
        health.add(result)
    made = health.snapshot()
    sinks = (SinkHealth("mqtt", 3, problem), SinkHealth("output", 0, None))
    return Snapshot(**{**vars(made), "frames_per_second": 29.8, "sinks": sinks})


CONNECTED = StateChange("0", SourceState.CONNECTED, 1700000000.0)
GONE = StateChange("0", SourceState.RECONNECTING, 1700000000.0, "gave no frame for 5 s")


def test_the_line_tells_label_score_rate_latency_age_and_state():
    assert status_line(snapshot(CONNECTED, answer()), 120) == (
        "cat                   ██████████████░░  0.88   29.8/s    12.5 ms  age   41.0 ms  connected"
    )
    assert "##############.." in status_line(snapshot(answer()), 120, blocks=False)


def test_what_matters_least_is_left_out_first():
    full = snapshot(CONNECTED, answer(), problem="no broker answers")
    lines = [status_line(full, width) for width in (125, 110, 80, 60, 45, 30, 10, 1)]
    assert "connected" in lines[0]
    assert lines[0].endswith("mqtt: no broker answers")
    assert "connected" not in lines[1]
    assert "██" in lines[1]
    assert "██" not in lines[2]
    assert "age" not in lines[4]
    assert "cat" in lines[5]
    assert "0.88" in lines[5]


def test_doubt_and_decisions_are_shown():
    assert status_line(snapshot(answer(rejected=True)), 80).startswith("cat? ")
    assert status_line(snapshot(answer("cat", Decision("dog", 0.6, event=False))), 80).startswith("dog ")
    assert status_line(snapshot(answer("cat", Decision(None, 0.4, event=False))), 80).startswith("cat? ")
    assert status_line(snapshot(), 80) == "waiting for the first frame"
    assert status_line(snapshot(answer(), GONE), 80) == "reconnecting: gave no frame for 5 s"


@given(st.text(max_size=40), st.integers(1, 200), st.text(max_size=60), st.booleans())
def test_any_label_and_any_width_is_one_printable_line_that_fits(label, width, problem, away):
    gone = [StateChange("0", SourceState.STALLED, 0.0, problem)] if away else []
    line = status_line(snapshot(answer(label), *gone, problem=problem), width)
    assert line.isprintable()
    assert columns(line) <= max(1, width - 1)


def test_the_line_is_written_four_times_a_second_and_news_at_once(monkeypatch):
    ConsoleSink(stream := io.StringIO()).close()
    assert stream.getvalue() == "", "nothing came"
    clock_s = 100.0
    monkeypatch.setattr(console.time, "monotonic", lambda: clock_s)
    stream = io.StringIO()
    sink = ConsoleSink(stream)
    for _ in range(300):
        sink.write(answer())
        clock_s += 0.01
    updates = stream.getvalue().count(CLEAR)
    assert 11 <= updates <= 13
    assert "\n" not in stream.getvalue()
    sink.write(answer("cat", Decision("cat", 0.9, event=True)))
    sink.write(GONE)
    sink.write(Failed("0", "ImageError", "a frame\nis broken"))
    sink.close()
    sink.close()
    assert stream.getvalue().count(CLEAR) == updates + 4
    above = [line.rpartition(CLEAR)[2] for line in stream.getvalue().split("\n")]
    news = [re.sub(r"^\d\d:\d\d:\d\d  ", "", line) for line in above[:3]]
    assert news == ["cat 0.900", "reconnecting: gave no frame for 5 s", "error: a frame\\nis broken"]
    assert above[4] == ""


PROGRAM = """
import sys
from edge_runtime.results import Classified, Decision, FrameStamp, LatencyMs, Prediction
from edge_runtime.sinks.rows import open_frame_sink
sink = open_frame_sink("text", sys.stdout, ["cat", "dog"], 2)
for number in range(2000):
    frame = FrameStamp(number, 0.0, 1700000000.0, 1.0)
    decision = Decision("cat", 0.9, event=True) if number == 1000 else None
    top = (Prediction("\\x1b]0;owned\\x07\\u732b" * 9, 0.9),)
    sink.write(Classified("0", top, LatencyMs(1, 1, 1), frame, decision))
sink.close()
"""


def run_in_terminal(term):
    """What the program above writes to a real terminal of 40 columns."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 40, 0, 0))
    environment = {**os.environ, "TERM": term, "PYTHONIOENCODING": "utf-8"}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=slave, env=environment)
    os.close(slave)
    pieces = []
    with contextlib.suppress(OSError):  # Linux's way to say that the terminal's last user has gone
        while piece := os.read(master, 65536):
            pieces.append(piece)
    assert process.wait(60) == 0
    os.close(master)
    return b"".join(pieces).decode()


def test_a_real_terminal_gets_few_updates_of_its_width_and_a_line_of_its_own_at_the_end():
    written = run_in_terminal("xterm")
    lines = re.split(r"\r\x1b\[K|\r\n", written)
    assert len(lines) < 60  # of 2000 frames; on a fast machine the first, the event and the last
    assert any(line.endswith("  cat 0.900") for line in lines)
    assert any("owned" in line for line in lines)
    assert written.endswith("\r\n")
    for line in lines:
        assert line.isprintable()
        assert columns(line) <= 39


def test_a_dumb_terminal_gets_plain_lines():
    written = run_in_terminal("dumb")
    assert "\x1b" not in written
    assert written.count("\n") == 2000


def test_a_pipe_gets_plain_lines(tmp_path):
    with (tmp_path / "out").open("w", encoding="utf-8") as stream:
        assert isinstance(open_frame_sink("text", stream, ["cat", "dog"], 2), FrameSink)
