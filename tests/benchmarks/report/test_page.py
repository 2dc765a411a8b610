"""The page, its plots and images, and the published schema."""

import base64
import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.records import Verdict
from benchmarks.report import plots, schema
from benchmarks.report.files import render_markdown
from benchmarks.report.page import MAX_TILES, read_tiles, render_page
from benchmarks.report.plots import Point, pareto_front, pareto_plot, write_pareto_svg
from benchmarks.report.verdict import verdict
from edge_runtime.contract import InputSpec
from support import reports
from support.pages import bare, headings
from support.reports import SAMPLES, Sample, sample_latencies, sample_report

KERAS = Sample("keras-function", 4.0)
HOSTILE = "<script>alert(1)</script>"


class Tags(HTMLParser):
    """The start tags of a page with their attributes, and whether all were closed in order."""

    def __init__(self, page):
        super().__init__()
        self.found, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "source", "li", "dt", "dd"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("li", "dt", "dd"):
            assert self.open.pop() == tag

    def of(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def svg_of(url):
    assert url is not None
    return ET.fromstring(base64.b64decode(url.partition("base64,")[2]))  # noqa: S314


@pytest.fixture(scope="module")
def report():
    return dataclasses.replace(sample_report(), verdict=Verdict("int8", "Ship int8."))


@pytest.fixture(scope="module")
def page(report):
    return render_page(report, sample_latencies(), read_tiles(report))


def test_the_page_stands_alone_and_is_whole(page):
    tags, own = Tags(page), bare(page)
    assert (tags.open, Tags(own).of("script"), tags.of("link")) == ([], [], [])
    assert not re.search(r"""(?:src|srcset|href)=["'](?!data:|#)""", own)
    assert "http" not in re.sub(r"data:[^\"]+", "", own)
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in tags.of("meta")
    assert "prefers-color-scheme: dark" in page
    assert len(page) < 2_000_000


def test_the_page_can_be_read_aloud(page):
    tags = Tags(page)
    assert tags.of("html") == [{"lang": "en"}]
    assert all(header.get("scope") in ("col", "row") for header in tags.of("th"))
    assert len(tags.of("img")) >= 5
    assert all(image.get("alt") for image in tags.of("img"))
    # What is wider than a phone scrolls in a box of its own, which the keyboard reaches.
    wrappers = [box for box in tags.of("div") if box.get("class") == "scroll"]
    assert len(wrappers) == len(tags.of("table")) >= 9
    assert all(box.get("tabindex") == "0" for box in wrappers)


def test_the_pick_comes_first_then_its_reasons_then_the_contents(report):
    report = dataclasses.replace(report, verdict=verdict(report.subjects, (), report.machine))
    page = render_page(report, {}, ())
    own = [f'">{heading}<a class="up"' for heading in headings(page)]
    texts = ("Ship <b>int8</b>", "<li>It is right on", "<li>It is 8.", 'id="contents"', *own)
    assert sorted(texts, key=page.index) == list(texts)
    assert headings(page)[:3] == ["Before you quote a figure", "Models", "Accuracy against latency"]


@pytest.mark.parametrize(("images", "is_doubted"), [(50, True), (2000, False)])
def test_too_few_images_are_told_beside_what_they_weaken(images, is_doubted):
    made = sample_report((KERAS, Sample("int8", 0.5)), images=images, keras_right=images - 2, calls=2, rounds=4)
    made = dataclasses.replace(made, verdict=verdict(made.subjects, (), made.machine))
    page = render_page(made, {}, ())
    # In large type, as a reason, and in the table of models.
    assert page.lower().count("too few images to tell") == (3 if is_doubted else 0)
    assert ("too few images to tell" in render_markdown(made)) == is_doubted


def test_the_page_escapes_everything():
    labels = (f"{HOSTILE}a", "b")
    made = sample_report((KERAS, Sample("int8", 0.5, lost=2), Sample("x", 1.0, error=HOSTILE)), labels=labels)
    texts = {"model_name": HOSTILE, "command": HOSTILE, "remarks": (HOSTILE,), "invalid": (HOSTILE,)}
    made = dataclasses.replace(made, **texts, verdict=Verdict(None, HOSTILE))
    made = reports.with_machine(reports.with_data(made, source=HOSTILE), cpu_model=f'"{HOSTILE}')
    page = render_page(made, {}, read_tiles(made))
    assert HOSTILE not in page
    assert Tags(bare(page)).of("script") == []
    assert page.count("&lt;script&gt;") > 8


def test_a_report_without_figures_is_a_page_all_the_same():
    made = sample_report((Sample("int8", 0.5, error="broken"),))
    page = render_page(made, {}, ())
    assert (Tags(page).open, Tags(page).of("img")) == ([], [])
    assert "not measured" in page
    assert "int8 was not measured: broken." in page


def test_names_that_are_no_text_do_not_stop_the_page():
    render_page(dataclasses.replace(sample_report(SAMPLES[:1]), bundle="bundle\udcff"), {}, ()).encode("utf-8")


def test_flips_are_shown_small_and_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = sample_report((KERAS, Sample("int8", 0.5, lost=3), Sample("dynamic", 0.6, lost=1)))
    image = np.random.default_rng(0).integers(0, 255, (600, 900, 3), np.uint8)
    Path("images/cat").mkdir(parents=True)
    cv2.imwrite("images/cat/0.jpg", image)
    Path("images/cat/2.jpg").write_bytes(b"no image")
    first, second, third = read_tiles(made)
    assert first.name == "cat/0.jpg"
    assert [subject for subject, _ in first.changed] == ["int8", "dynamic"]
    shown = cv2.imdecode(np.frombuffer(base64.b64decode(first.jpeg_url.partition(",")[2]), np.uint8), 1)
    assert (shown.shape, first.is_wrong) == ((213, 320, 3), True)
    assert (second.jpeg_url, second.reason != "") == ("", True)  # images/dog/1.jpg is not there
    assert third.jpeg_url == ""
    page = render_page(made, {}, (first, second, third))
    assert (page.count("cannot be shown: "), page.count("data:image/jpeg")) == (2, 1)


def test_images_have_a_limit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.report.page._MAX_CHARACTERS", 60_000)
    for label, start in (("cat", 0), ("dog", 1)):
        Path("images", label).mkdir(parents=True)
        for index in range(start, 12, 2):
            noise = np.random.default_rng(index).integers(0, 255, (200, 200, 3), np.uint8)
            cv2.imwrite(f"images/{label}/{index}.jpg", noise)
    tiles = read_tiles(sample_report((KERAS, Sample("int8", 0.5, lost=12))))
    assert 0 < sum(len(tile.jpeg_url) for tile in tiles) <= 60_000
    assert "too large" in tiles[-1].reason
    many = [Sample(f"v{index}", 0.5, lost=index * 5) for index in range(10)]
    assert len(read_tiles(sample_report((KERAS, *many), rounds=2, calls=1))) <= MAX_TILES


def test_images_of_bare_bytes_are_shown_by_the_models_size(tmp_path):
    made = sample_report((KERAS, Sample("int8", 0.5, lost=1)))
    (tmp_path / "0.bin").write_bytes(bytes(32 * 32 * 3))
    against = reports.figures_of(made, "int8").against_keras
    assert against is not None
    flip = dataclasses.replace(against.flips[0], file=str(tmp_path / "0.bin"))
    made = reports.with_figures(made, "int8", against_keras=dataclasses.replace(against, flips=(flip,)))
    assert read_tiles(made, InputSpec(width=32, height=32))[0].jpeg_url
    assert read_tiles(made)[0].reason


def test_the_front_holds_what_nothing_beats():
    figures = {"slow": (9, 90), "best": (3, 95), "fast": (1, 80), "worse": (3, 94), "x": (4, 95)}
    points = [Point(name, p50_ms, top1, top1 - 1, top1 + 1, 1000, False) for name, (p50_ms, top1) in figures.items()]
    assert [item.name for item in pareto_front(points)] == ["fast", "best"]
    assert pareto_front([]) == []


def test_plots_are_svg_and_the_same_each_time(report):
    assert pareto_plot(report) == pareto_plot(report)
    drawn = [draw(report) for draw in (plots.stages_plot, plots.memory_plot, plots.rounds_plot)]
    for url in (*drawn, plots.latency_plot(report, sample_latencies())):
        assert svg_of(url).tag.endswith("svg")
    assert b"<script" not in base64.b64decode(pareto_plot(report).partition("base64,")[2])


@pytest.mark.parametrize(
    "samples",
    [
        (Sample("int8", 0.5),),
        (KERAS, Sample("a$b$ \\frac", 0.5)),
        (KERAS, Sample("int8", 0.5, 0), Sample("bad", 0.1, lost=240)),
        SAMPLES[3:6],
        (Sample("int8", 0.5, error="broken"),),
    ],
)
def test_plots_of_odd_reports(samples):
    made = sample_report(samples, rounds=3, calls=2)
    assert svg_of(pareto_plot(made)).tag.endswith("svg")
    has_figures = samples[0].error is None
    drawn = (plots.latency_plot(made, sample_latencies(samples)), plots.stages_plot(made), plots.memory_plot(made))
    assert all((url is not None) == has_figures for url in drawn)
    assert (plots.rounds_plot(made) is not None) == has_figures
    # A single round has no plot.
    assert plots.rounds_plot(sample_report((KERAS, Sample("int8", 0.5)), rounds=1)) is None


def test_the_plot_for_a_readme_is_on_white(report, tmp_path):
    write_pareto_svg(report, tmp_path / "pareto.svg")
    text = (tmp_path / "pareto.svg").read_text(encoding="utf-8")
    assert ET.fromstring(text).tag.endswith("svg")  # noqa: S314
    assert "fill: #ffffff" in text


def test_the_published_schema_is_what_the_records_say():
    published = Path(schema.__file__).with_name(schema.SCHEMA_FILE).read_text(encoding="utf-8")
    assert published == schema.to_text(), "write it anew: python -m benchmarks.report.schema > schema.json"


def test_the_schema_describes_its_fields():
    made = schema.report_schema()
    latency = made["$defs"]["LatencySummary"]
    p99 = latency["properties"]["p99_ms"]
    assert (latency["additionalProperties"], p99["type"]) == (False, ["number", "null"])
    assert p99["description"].startswith("null with fewer than 100 calls")
    assert made["$defs"]["Settings"]["properties"]["scenarios"]["items"]["enum"][0] == "single-stream"
    assert made["$defs"]["Report"]["properties"]["schema_version"]["const"] == 2
    assert [entry for entry in made["$defs"].values() if "description" not in entry] == []


def test_the_schema_refuses_types_that_are_not_read():
    @dataclasses.dataclass(frozen=True)
    class Odd:
        when: bytes

    Odd.__annotations__["when"] = bytes
    with pytest.raises(TypeError, match="expected a type"):
        schema.json_schema(Odd)


def problems(value, rule, root, where="$"):
    """What a validator of JSON Schema would say, for the few keywords that the schema uses; none is installed."""
    if "$ref" in rule:
        return problems(value, root["$defs"][rule["$ref"].rpartition("/")[2]], root, where)
    if "anyOf" in rule:
        return min((problems(value, option, root, where) for option in rule["anyOf"]), key=len)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
    fits = {name: isinstance(value, kind) for name, kind in kinds.items()}
    fits |= {"number": is_number, "integer": is_number and value == int(value)}
    names = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
    if not any(fits[name] for name in names):
        return [f"{where}: {value!r} is no {names}"]
    if ("enum" in rule and value not in rule["enum"]) or ("const" in rule and value != rule["const"]):
        return [f"{where}: {value!r} is not allowed"]
    if isinstance(value, list):
        return [text for i, item in enumerate(value) for text in problems(item, rule["items"], root, f"{where}[{i}]")]
    if isinstance(value, dict):
        fields, others = rule.get("properties", {}), rule["additionalProperties"]
        found = [f"{where}.{name}: missing" for name in rule.get("required", ()) if name not in value]
        found += [f"{where}.{name}: unknown" for name in value if others is False and name not in fields]
        known = [(name, item, fields.get(name, others)) for name, item in value.items() if fields.get(name, others)]
        return found + [text for name, item, one in known for text in problems(item, one, root, f"{where}.{name}")]
    return []


def test_a_report_follows_the_schema_and_an_altered_one_does_not():
    made = schema.report_schema()
    data = json.loads(sample_report().to_json())
    assert problems(data, made, made) == []
    data["machine"]["colour"] = "green"
    del data["data"]["sha256"]
    data["subjects"][3]["performance"]["single_stream"]["latency"]["p50_ms"] = "fast"
    places = ["$.data.sha256", "$.machine.colour", "$.subjects[3].performance.single_stream.latency.p50_ms"]
    assert sorted(text.partition(":")[0] for text in problems(data, made, made)) == places
