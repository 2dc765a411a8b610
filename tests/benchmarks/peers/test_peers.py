"""Other tools beside ours: the loop that times them, the processes, the table, the whole command with fake tools."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.peers import tools
from benchmarks.peers.__main__ import cli
from benchmarks.peers.comparison import summarize
from benchmarks.peers.measuring import DAMAGED, Round, Seen, draw_awkward
from benchmarks.peers.plan import NotMeasured, Peer, Places, plan_peers
from benchmarks.peers.processes import ask_child, run_process
from benchmarks.peers.report import PeersReport, is_right_refusal, plain, render
from edge_runtime import Classifier
from edge_runtime.errors import EngineError, ImageError
from edge_runtime.model.bundle import read_bundle_manifest
from support.files import put
from support.paths import CHECKOUT
from support.programs import call_cli, run_module
from support.waiting import is_running, wait_until

# Stands for the Python of a peer's environment: it answers red to everything and stumbles as it is told to.
FAKE_TOOL = """
import json, os, sys, time
request = json.load(open(sys.argv[2]))
images = request["images"]
if request["awkward"]:
    print(json.dumps({"awkward": ["answered"] * len(request["awkward"])}))
else:
    print("a library says hello")
    answers = ["red"] * (len(images) - 1) + [None]
    total = [2_000_000] * (len(images) - 1) + [None]
    print(json.dumps({
        "runtime": "fake 1", "facts": {"parameters": 0.5}, "answered_ns": time.monotonic_ns(), "answers": answers,
        "total_ns": total, "inference_ns": [None] * len(images), "cpu_ns": 1_000_000 * len(images),
        "errors": {str(len(images) - 1): "ValueError: <b>no</b> | not this one"}, "peak_bytes": 1_000_000,
    }))
"""


def make_environment(root, name, script):
    """A virtual environment whose Python runs ``script`` instead of what it is given."""
    fake = put(root, f"{name}.py", script)
    program = put(root, f".venv-{name}/bin/python", f'#!/bin/sh\nexec "{sys.executable}" "{fake}" "$@"\n')
    program.chmod(0o755)
    (program.parents[1] / ".setup").touch()


@given(st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_the_first_of_the_largest_scores_wins(scores):
    labels = [str(index) for index in range(len(scores))]
    assert scores[int(tools.label_of(scores, labels, 0.5))] == max(scores)
    assert tools.label_of([0.4, 0.4], ["a", "b"], 0.5) == "a"


def test_one_score_is_decided_by_the_threshold_and_a_label_is_taken_as_it_is():
    assert [tools.label_of([score], ["no", "yes"], 0.7) for score in (0.69, 0.7)] == ["no", "yes"]
    assert tools.label_of("maybe", ["no", "yes"], 0.7) == "maybe"


def test_a_image_that_fails_is_told_and_the_others_are_timed():
    def classify(path):
        if path == "bad":
            raise OSError("cannot\nread")
        return [0.1, 0.9], 5

    seen = tools.time_images(classify, {"images": ["a", "bad", "c"], "labels": ["x", "y"], "threshold": 0.5})
    assert (seen["answers"], seen["inference_ns"]) == (["y", None, "y"], [5, None, 5])
    assert [value is None for value in seen["total_ns"]] == [False, True, False]
    assert seen["errors"] == {"1": "OSError: cannot read"}


def test_a_tool_that_stops_for_good_is_opened_again():
    opened = []

    def opener(request):
        opened.append(request)
        broken = []

        def classify(path):
            if path == "grey":
                broken.append(path)
            if broken:
                raise ValueError("graph has errors")
            if path == "cut":
                raise OSError("cut off")
            return "red", None

        return "fake", classify, {}

    outcomes = tools.try_awkward(opener, {"images": ["good"], "awkward": ["grey", "cut", "fine"]})
    assert "answers no other image" in outcomes[0]
    assert outcomes[1:] == ["refused: OSError: cut off", "answered"]
    assert len(opened) == 2
    assert [is_right_refusal(outcome) for outcome in outcomes] == [False, True, False]


def test_a_tool_that_is_not_there_is_a_result(monkeypatch):
    monkeypatch.setitem(sys.modules, "mediapipe", None)
    request = {"peer": "mediapipe", "awkward": [], "images": ["a"], "model": "m"}
    assert tools.run(request)["error"].startswith("ModuleNotFoundError")


def test_our_own_program_takes_the_awkward_files_and_refuses_the_damaged(tmp_path, tiny_bundle):
    with Classifier(tiny_bundle) as classifier:
        for what, file in draw_awkward(tmp_path).items():
            if what in DAMAGED:
                with pytest.raises(ImageError):
                    classifier.classify(file)
            else:
                assert classifier.classify(file)


def test_why_an_environment_is_missing(tmp_path):
    places = Places(tmp_path)
    assert "make bench-peers makes it" in places.why_missing("litert")
    folder = put(tmp_path, ".venv-litert/bin/python").parents[1]
    put(folder, "pip.txt", "WARNING: x\nERROR: Could not find it\nERROR: No matching distribution for y\n\n")
    assert places.python("litert") is None
    assert places.why_missing("litert") == "cannot be installed here: ERROR: No matching distribution for y"
    (folder / ".setup-1").touch()
    assert places.python("litert") == folder / "bin/python"
    assert places.python("edgekit") == Path(sys.executable)


def test_a_process_that_fails_says_its_last_line():
    with pytest.raises(EngineError, match="exit code 3: the reason"):
        run_process([sys.executable, "-c", "import sys; print('the reason', file=sys.stderr); sys.exit(3)"], 60)
    assert run_process([sys.executable, "-c", "raise SystemExit(1)"], 60, good=(0, 1)).peak_bytes > 0
    with pytest.raises(EngineError, match="cannot be started"):
        run_process(["/no/such/program"], 60)


def test_a_process_that_hangs_is_stopped_with_its_children(tmp_path):
    noted = tmp_path / "child"
    script = f"""
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path({str(noted)!r}).write_text(str(child.pid))
time.sleep(600)
"""
    with pytest.raises(EngineError, match="did not end within 2 s"):
        run_process([sys.executable, "-c", script], 2)
    wait_until(lambda: not is_running(noted.read_text()), "the end of the child")


@pytest.mark.parametrize("printed", ["", "hello", "[1]", '{"error": "no such model"}'])
def test_an_answer_that_is_none_is_an_error(tmp_path, printed):
    program = put(tmp_path, "program.py", f"print({printed!r})")
    with pytest.raises(EngineError, match=r"gave no result|no such model"):
        ask_child([sys.executable, program], {}, tmp_path, 60)


def test_the_plan_lists_what_is_not_there(tiny_bundle, tmp_path):
    make_environment(tmp_path, "litert", FAKE_TOOL)
    manifest = read_bundle_manifest(tiny_bundle)
    peers, missing = plan_peers(tiny_bundle, manifest, None, 1, Places(tmp_path))
    held = {artifact.variant.value for artifact in manifest.artifacts}
    assert {peer.what for peer in peers} <= held
    assert {peer.environment for peer in peers} == {"edgekit", "litert"}
    absent = {one.name for one in missing}
    assert {"Keras predict", *({"float32", "int8", "onnx-float32", "onnx-int8"} - held)} <= absent
    assert sum(name.startswith("Ultralytics") for name in absent) == 3


OURS = Peer("edgekit", "int8", "edgekit", "edgekit", Path("m"), "", "1")
THEIRS = Peer("other", "int8", "litert", "litert", Path("m"), OURS.name, "1")


def a_round(total_ms, answers):
    answered = sum(answer is not None for answer in answers)
    errors = {index: "refused" for index, answer in enumerate(answers) if answer is None}
    return Round(answers, (total_ms,) * answered, (), errors, 0.5, 1.0, 1000, 2.0)


def test_ratios_are_paired_by_round_and_an_unanswered_image_is_wrong():
    ours = Seen(OURS, rounds=[a_round(ms, ("a", "b")) for ms in (1.0, 10.0, 2.0)])
    theirs = Seen(THEIRS, rounds=[a_round(ms, ("a", None)) for ms in (2.0, 20.0, 4.0)])
    equivalent = Seen(
        replace(THEIRS, tool="equivalent", model=None), rounds=[a_round(3.0, ("b", "b")), a_round(3.0, ("b", "a"))]
    )
    failed = Seen(replace(THEIRS, tool="failed"), error="it broke")
    rows, missing = summarize([ours, theirs, equivalent, failed], ["a", "b"], seed=0)
    assert missing == [NotMeasured("failed, int8", "it broke")]
    first, second, third = rows
    assert first.accuracy is not None
    assert (first.times_ours, first.accuracy.hits) == (None, 2)
    assert second.times_ours is not None
    assert second.times_ours.median == pytest.approx(2.0)
    assert second.times_ours.interval is not None
    assert second.times_ours.interval.low == pytest.approx(2.0)
    assert (second.accuracy.hits, second.agreement.hits, second.answered) == (1, 1, 1)
    assert (second.refusals, second.inference_ms, second.pictures_per_s) == ({"refused": 1}, None, 1.0)
    assert (third.accuracy, third.agreement, third.is_steady) == (None, None, False)


@given(st.text(max_size=40))
def test_text_from_outside_stays_text(text):
    line = plain(text)
    assert not set(line) & set("<>|`[]\\\n\r")


def test_the_tables_say_what_was_not_measured_and_escape_it():
    ours = Seen(OURS, runtime="litert 2", rounds=[a_round(1.0, ("a",))], awkward={DAMAGED[0]: "answered"})
    rows, _ = summarize([ours], ["a"], 0)
    report = PeersReport(
        *(1, "2026-01-01", "python <x>", {"cpu_model": "cpu"}, 0.1, 0.2),
        (NotMeasured("MediaPipe", "<script>x</script>"),),
        *("bundle", "model", 2, "8x8", "a|b", "test", 1, 1, 0, tuple(rows)),
    )
    text = render(report)
    assert "## Not measured" in text
    assert not [part for part in ("<script>", "a|b") if part in text]
    assert f"edgekit, int8: {DAMAGED[0]}: answered" in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("| tool")]
    assert [len({line.count("|") for line in table}) for table in tables] == [1, 1]


@pytest.mark.slow
def test_the_whole_command_with_fake_tools(tmp_path, tiny_bundle, colored_images, monkeypatch, capsys):
    make_environment(tmp_path, "litert", FAKE_TOOL)
    make_environment(tmp_path, "mediapipe", "import sys; sys.exit('no such library')")
    out = tmp_path / "out"
    given_ = ("--bundle", tiny_bundle, "--data", colored_images, "--environments", tmp_path, "--out", out)
    done = run_module("benchmarks.peers", *given_, "--pictures", "8", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "peers.json").read_text())
    assert (out / "peers.md").read_text() in done.stdout
    rows = {row["tool"]: row for row in report["rows"]}
    assert rows["edgekit"]["answered"] == 8
    assert rows["edgekit"]["accuracy"]["hits"] == rows["edge-run classify"]["accuracy"]["hits"]
    assert rows["edge-run classify"]["agreement"]["fraction"] == 1.0
    assert rows["edge-run classify"]["awkward"]["text named .jpg"].startswith("refused")
    loop_row = rows["plain LiteRT loop"]
    assert (loop_row["answered"], loop_row["total_ms"], loop_row["runtime"]) == (7, 2.0, "fake 1")
    assert loop_row["times_ours"]["rounds"] == 1
    reasons = {one["name"]: one["reason"] for one in report["not_measured"]}
    assert any("no such library" in reason for reason in reasons.values())
    assert any(name.startswith("Ultralytics") for name in reasons)
    code, _, errors = call_cli(cli, monkeypatch, capsys, "peers", *given_)
    assert (code, "already exists" in errors, "Traceback" in errors) == (7, True, False)


@pytest.mark.parametrize("keras", [False, True])
@pytest.mark.parametrize("is_bundle", [False, True])
def test_bad_input_is_one_sentence(tmp_path, tiny_bundle, monkeypatch, capsys, is_bundle, keras):
    arguments = ["--bundle", tiny_bundle if is_bundle else tmp_path, *(["--keras", tmp_path] if keras else [])]
    code, _, errors = call_cli(cli, monkeypatch, capsys, "peers", *arguments, "--out", tmp_path / "out")
    assert code in (2, 4), errors
    assert errors.startswith("error: ")
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_make_knows_every_environment():
    makefile = (CHECKOUT / "Makefile").read_text()
    peers = re.search(r"^PEERS := (.*)$", makefile, re.MULTILINE)
    assert peers is not None
    assert sorted(peers[1].split()) == ["litert", "onnxruntime", "ultralytics"]  # mediapipe is made for the tests too
    for name in peers[1].split():
        assert (CHECKOUT / "benchmarks/peers/environments" / f"{name}.txt").is_file()


@pytest.mark.slow
def test_the_real_tools_that_are_here(small_run, small_bundle, tmp_path):
    """MediaPipe and whatever else ``make bench-peers`` has installed; Keras is always here."""
    if Places(CHECKOUT).python("mediapipe") is None:
        pytest.skip("no virtual environment with MediaPipe (make test prepares .venv-mediapipe)")
    arguments = ("--bundle", small_bundle, "--keras", small_run, "--out", tmp_path / "out", "--timeout", "600")
    done = run_module("benchmarks.peers", *arguments, "--pictures", "6", "--rounds", "1", timeout_s=1800)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads((tmp_path / "out/peers.json").read_text())["rows"]}
    for name in ("MediaPipe ImageClassifier, float32", "MediaPipe ImageClassifier, int8", "Keras predict, model.keras"):
        assert rows[name]["answered"] == rows[name]["pictures"]
        assert rows[name]["agreement"]["fraction"] > 0.5
    assert rows["Keras predict, model.keras"]["model_facts"]["parameters"] > 0
    assert "answers no other" in rows["MediaPipe ImageClassifier, float32"]["awkward"]["grey JPEG"]
