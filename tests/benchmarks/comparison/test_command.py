"""``edge-bench compare`` from files to an exit code, and files that nobody should trust."""

import dataclasses
import json
import os

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cli import compare
from benchmarks.comparison.command import load_report, read_answers, run_compare
from benchmarks.report.files import write_answers
from edge_runtime.errors import DataError, EdgeKitError, OutputError
from support.pages import bare
from support.reports import Sample, sample_answers, sample_report

SAMPLES = (Sample("keras-function", 4.2), Sample("float32", 0.7), Sample("int8", 0.5))
REPORT = sample_report(SAMPLES)


def write(folder, samples=SAMPLES, **changes):
    folder.mkdir(parents=True)
    report = dataclasses.replace(sample_report(samples), **changes)
    (folder / "report.json").write_text(report.to_json(), encoding="utf-8")
    write_answers(folder / "answers.csv", sample_answers(samples))
    return folder


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    root = tmp_path_factory.mktemp("reports")
    write(root / "before")
    write(root / "same")
    write(root / "slow", (*SAMPLES[:2], dataclasses.replace(SAMPLES[2], p50_ms=0.8)))
    write(root / "invalid", invalid=("The board throttled.",))
    write(root / "threads", settings=dataclasses.replace(REPORT.settings, threads=4))
    return root


@pytest.mark.parametrize(
    ("after", "options", "code"),
    [
        ("same", [], 0),
        ("same", ["--strict"], 0),
        ("slow", [], 8),
        ("slow", ["--max-slowdown", "80"], 0),
        ("threads", [], 0),
        ("threads", ["--strict"], 9),
    ],
)
def test_the_exit_code_says_whether_it_became_worse(reports, after, options, code):
    done = CliRunner().invoke(
        compare, [str(reports / "before"), str(reports / after / "report.json"), *options], standalone_mode=False
    )
    assert (done.exception, done.return_value) == (None, code)
    assert ("regression: int8: p50 against keras-function" in done.output) == (code == 8)
    assert ("NOT THE SAME MACHINE" in done.output) == (after == "threads")


def test_an_invalid_report_has_an_exit_code_of_its_own(reports):
    with pytest.raises(EdgeKitError, match="neither pass nor fail") as caught:
        run_compare(str(reports / "before"), str(reports / "invalid"))
    assert caught.value.exit_code == 9


def test_the_same_is_printed_as_markdown_and_json_and_written(reports, tmp_path):
    names = str(reports / "before"), str(reports / "slow")
    text, code = run_compare(*names, format_name="json", out=tmp_path / "out")
    data = json.loads(text)
    assert (code, len(data["regressions"]), data["reference"]) == (8, 1, "keras-function")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["compare.html", "compare.json", "compare.md"]
    assert json.loads((tmp_path / "out/compare.json").read_text()) == data
    markdown, _ = run_compare(*names, format_name="markdown")
    assert markdown + "\n" == (tmp_path / "out/compare.md").read_text()
    with pytest.raises(OutputError, match="--overwrite"):
        run_compare(*names, out=tmp_path / "out")
    run_compare(*names, out=tmp_path / "out", overwrite=True)


def test_the_page_needs_nothing_else_and_escapes_what_others_wrote(tmp_path):
    evil = "<img src=x onerror=alert(1)>"
    write(tmp_path / "a")
    write(tmp_path / "b", model_name=evil, tool=evil)
    run_compare(str(tmp_path / "a"), str(tmp_path / "b"), out=tmp_path / "out")
    page = (tmp_path / "out/compare.html").read_text()
    assert not [part for part in (evil, "http", "<script") if part in bare(page)]
    assert "&lt;img" in page
    assert "src=" not in page.replace("&lt;img src=x", "")


def test_answers_are_paired_only_beside_a_report_directory(reports, tmp_path):
    assert load_report(reports / "before")[1] is not None
    (tmp_path / "copied.json").write_bytes((reports / "before/report.json").read_bytes())
    (tmp_path / "answers.csv").write_text("nonsense")
    assert load_report(tmp_path / "copied.json")[1] is None


def altered(change):
    data = json.loads(REPORT.to_json())
    change(data)
    return json.dumps(data)


def float32(data):
    return data["subjects"][1]["performance"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "[" * 100_000, '{"schema_version": 1}'),
        altered(lambda data: data.pop("machine")),
        altered(lambda data: data.update(extra=1)),
        altered(lambda data: data.update(subjects="x")),
        altered(lambda data: data["subjects"].append(data["subjects"][0])),
        altered(lambda data: data["subjects"][1].update(bytes=-1)),
        altered(lambda data: float32(data)["single_stream"].update(burst_p50_ms=[])),
        altered(lambda data: float32(data)["single_stream"].update(burst_p50_ms=[1.0, 0.0])),
        altered(lambda data: float32(data)["single_stream"].update(burst_p50_ms=[1.0] * 5000)),
        altered(lambda data: float32(data)["single_stream"]["latency"].update(p50_ms=-1.0)),
        altered(lambda data: float32(data)["single_stream"]["latency"].update(p50_ms=float("nan"))),
        altered(lambda data: data.update(duration_s=1)).replace('"duration_s": 1', '"duration_s": 1e999'),
        altered(lambda data: data.update(duration_s=1)).replace('"duration_s": 1', '"duration_s": 1' + "0" * 400),
        altered(lambda data: float32(data)["accuracy"]["top1"].update(hits=10**6)),
        altered(lambda data: float32(data)["accuracy"]["top1"].update(total=0, hits=0)),
        altered(lambda data: float32(data)["cold_start"].update(samples_ms=[])),
        altered(lambda data: float32(data)["resources"].update(peak_memory_bytes=0)),
    ],
    ids=lambda text: str(len(text)),
)
def test_a_report_that_nobody_measured_is_refused_in_one_sentence(text, reports, tmp_path):
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(EdgeKitError) as caught:
        run_compare(str(reports / "before"), str(tmp_path))
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_no_file_is_refused_at_once(reports, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    os.truncate(os.open(tmp_path / "large", os.O_CREAT | os.O_WRONLY), 1 << 30)
    for name in ("pipe", "large", "missing", "."):
        with pytest.raises(DataError, match="expected a report"):
            run_compare(str(reports / "before"), str(tmp_path / name))


@pytest.mark.parametrize(
    "text",
    [
        *("", "file\n", "file,label,int8\n", "file,label,int8\na,b\n", "file,label,int8,int8\na,b,c,c\n"),
        "file,label,sha256\na,b,c\n",
        'file,label\n"a,' + "b" * 200_000 + '",c\n',
        ",".join(["file", "label", *map(str, range(100))]),
    ],
    ids=range(8),
)
def test_answers_that_are_no_table_are_refused_in_one_sentence(text, tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_answers(path, REPORT)
    assert len(str(caught.value).splitlines()) == 1


@given(st.binary(max_size=300))
def test_any_bytes_are_answers_or_a_data_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(b"file,label,int8\n" + data)
    try:
        answers = read_answers(path, REPORT)
    except DataError:
        return
    assert len(answers.files) == len(answers.truth) == len(answers.by_subject["int8"]) > 0


def test_answers_that_are_not_those_of_the_report_are_not_paired(reports, tmp_path):
    folder = write(tmp_path / "b")
    write_answers(folder / "answers.csv", sample_answers((*SAMPLES[:2], dataclasses.replace(SAMPLES[2], lost=50))))
    text, code = run_compare(str(reports / "before"), str(folder), format_name="json")
    methods = {item["name"]: item["differences"][0]["method"] for item in json.loads(text)["subjects"]}
    assert code == 0
    assert "McNemar" in methods["float32"]
    assert "Newcombe" in methods["int8"]
