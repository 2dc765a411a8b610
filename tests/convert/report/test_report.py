"""The report says what was measured, for any labels, variants and outcomes, and promises no more."""

import base64
import html
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

from convert.record import LeftOut
from convert.report import page as page_module
from convert.report import text as wording
from convert.report.page import flip_tiles, render_page
from convert.report.text import WIDTH, recommendation, render, text_table
from edge_runtime.contract import Variant
from edge_runtime.text import columns
from edge_runtime.workstation.reporting.wording import megabytes, milliseconds, p_value, percent_range, signed
from support.conversion_records import sample_record, with_figures
from support.images import noisy_images
from support.pages import bare, headings

ODD = ("$x^", "_<b>&'\"|", "猫 😀")
INT8 = (Variant.FLOAT32, Variant.INT8)


@pytest.fixture(scope="module")
def record():
    """All variants, of which per-tensor int8 failed, and one that could not be made."""
    return sample_record(left_out=(LeftOut("edgetpu", "no edgetpu_compiler on PATH"),))


def page_of(record, names=None):
    count = record.check_images
    return render_page(record, noisy_images(count), names or [f"cat/{index}.jpg" for index in range(count)])


def text_of(page):
    visible = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(visible).split())


@pytest.fixture
def without_drawing(monkeypatch):
    """Plots take a second a page and have no words of the user."""
    monkeypatch.setattr(page_module.plots, "svg_url", lambda _figure: "data:image/svg+xml;base64,")


def test_the_page_is_complete_needs_nothing_else_and_is_the_same_each_time(record):
    page = page_of(record)
    assert page == page_of(record)
    for forbidden in ("http", "<script", "<link", "@import", "url(", "onload="):
        assert forbidden not in bare(page)
    assert set(re.findall(r'src="([a-z]+:[a-z+/]+);', page)) == {"data:image/svg+xml", "data:image/jpeg"}
    assert " | ".join(headings(page)) == (
        "Variants | Size, latency and accuracy | Steps of the integer variants | "
        "Accuracy against number of calibration images | Changed answers | Calibration | Made with"
    )
    assert page.index(recommendation(record)[:30].replace("'", "&#39;")) < page.index("<h2")
    assert page.endswith("</html>")
    assert len(page) < 3_000_000
    for url in re.findall(r'src="data:image/svg\+xml;base64,([^"]*)"', page):
        drawing = base64.b64decode(url).decode()
        assert "<svg" in drawing
        assert "<image" not in drawing
        assert not re.search(r'href="(?!#)', drawing)


@pytest.mark.usefixtures("without_drawing")
def test_every_figure_of_a_variant_is_in_its_row(record):
    text = text_of(page_of(record))
    for variant in record.variants:
        comparison = variant.comparison
        is_unsure = comparison.drop_interval_points[1] > record.max_drop_points
        doubt = " too few images to tell" if comparison.check.passed and is_unsure else ""
        row = (
            f"{variant.artifact.variant.value} {'passed' if comparison.check.passed else 'failed'}{doubt} "
            f"{megabytes(variant.artifact.bytes)} "
            f"{comparison.check.accuracy * 100:.2f} % {percent_range(*comparison.accuracy_interval)} "
            f"{wording.change(comparison)} {wording.change_range(comparison)} "
            f"{comparison.check.agreement * 100:.2f} % {p_value(comparison.mcnemar_p)} "
            f"{comparison.calibration_error * 100:.2f} % {milliseconds(variant.latency_ms)} "
            f"{wording.runtimes(variant)}"
        )
        assert row in text
    assert re.search(r"int8-per-tensor is not in the bundle: lost \d+\.\d\d points, more than the allowed 1\.", text)
    for words in (
        "edgetpu was left out: no edgetpu_compiler on PATH",
        "int8-per-tensor: opens in tflite-runtime 2.14, as requested",
        "2 layers kept in float32: block_1_depthwise, Conv1",
        *("+9.0 kB", "+0.06 ms", record.calibration.sha256, "edgekit 0.1.0"),
    ):
        assert words in text


@pytest.mark.usefixtures("without_drawing")
def test_it_says_where_the_images_are_too_few(record):
    unsure = "passed, but 400 images do not rule out that more than the allowed 1 would be lost on others."
    text = text_of(page_of(record))
    assert f"Too few images to tell: int8 and onnx-int8 {unsure}" in text
    assert text.count("passed too few images to tell") == 2
    assert "too few" not in text_of(page_of(replace(record, max_drop_points=5.0)))


@pytest.mark.usefixtures("without_drawing")
def test_what_comes_from_outside_is_escaped_and_need_be_no_text():
    evil = "<u>evil</u>"
    odd = sample_record(ODD, images=60, left_out=(LeftOut("edgetpu", evil),))
    variants = tuple(replace(variant, notes=(evil,), lowest_runtimes=(evil,)) for variant in odd.variants)
    odd = replace(odd, origin=evil, machine=evil, settings={evil: evil}, versions={evil: evil}, variants=variants)
    page = page_of(odd, ["dir/\udcff<i>.png"] * 60)
    page.encode("utf-8")
    for tag in ("<u>", "<b>&", "<i>", "'\"|"):
        assert tag not in page
    text = text_of(page)
    for words in ("dir/?<i>.png", *ODD):
        assert words in text
    written = render(odd)
    assert "<u" not in written
    assert "\\_<b" not in written
    assert all(columns(line) <= WIDTH for line in text_table(odd).splitlines())


@pytest.mark.usefixtures("without_drawing")
def test_flips_are_counted_and_shown():
    record = sample_record(images=400, variants=(Variant.INT8_PER_TENSOR,))
    comparison = record.variants[0].comparison
    page = page_of(record)
    worse = sum(flip.keras == flip.truth for flip in comparison.flips)
    assert f"int8-per-tensor : {len(comparison.flips)} of 400; Keras alone is right on {worse}," in text_of(page)
    assert page.count("<figure") == page_module.MAX_TILES
    assert f"And {len(comparison.flips) - page_module.MAX_TILES} more, see conversion.json." in text_of(page)
    first = comparison.flips[0]
    keras = f"Keras: {first.keras} {first.keras_score * 100:.0f} % cat/{first.index}.jpg"
    assert f"{first.artifact} {first.artifact_score * 100:.0f} % {keras}" in text_of(page)


@pytest.mark.usefixtures("without_drawing")
def test_without_flips_calibration_or_variants_the_page_says_so():
    same = replace(sample_record(variants=(Variant.FLOAT32,)), calibration=None)
    text = text_of(page_of(same))
    assert "Every artifact answered every image as Keras did." in text
    assert "calibration images" not in text
    nothing = replace(same, variants=(), left_out=(LeftOut("int8", "the converter failed"),))
    text = text_of(page_of(nothing))
    for words in ("No recommendation", "int8 was left out: the converter failed", "Nothing was compared."):
        assert words in text
    assert "Nothing was exported." in text_of(page_of(replace(nothing, left_out=())))
    assert "left out" in text_table(nothing).lower()
    assert "Nothing could be measured." in render(nothing)


@pytest.mark.usefixtures("without_drawing")
def test_many_classes_stay_readable():
    labels = [f"class {index:04d}" for index in range(300)]
    page = page_of(sample_record(labels, images=800, variants=(Variant.INT8_PER_TENSOR,)))
    assert len(page) < 3_000_000
    assert "<details><summary>By class" in page
    assert re.search(r"And \d+ more pairs", page)


@pytest.mark.parametrize("latency_ms", [0.0, 0.5])
def test_a_page_of_one_variant_that_was_not_timed_has_no_plot_of_latency(latency_ms):
    record = with_figures(sample_record(variants=(Variant.FLOAT32,), images=20), Variant.FLOAT32, latency_ms=latency_ms)
    assert page_of(record).count('class="plot"') == (3 if latency_ms else 2)
    assert ("–" in text_table(record)) == (not latency_ms)


def test_images_are_small_and_the_variants_share_the_room(monkeypatch):
    record = sample_record(images=400, variants=(Variant.INT8_PER_TENSOR, Variant.ONNX_INT8))
    images = noisy_images(400, 320)
    names = [str(index) for index in range(400)]
    many, few = flip_tiles(record, images, names)
    assert len(many) == page_module.MAX_TILES
    assert [tile.flip for tile in few] == list(record.variants[1].comparison.flips)
    for tile in many[:2]:
        assert tile.name == str(tile.flip.index)
        data = base64.b64decode(tile.jpeg_url.removeprefix("data:image/jpeg;base64,"))
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert decoded.shape == (256, 256, 3)
    # Room for the two surest of each and no more.
    monkeypatch.setattr(page_module, "MAX_CHARACTERS", sum(len(tile.jpeg_url) for tile in (*many[:2], *few[:2])))
    assert [len(tiles) for tiles in flip_tiles(record, images, names)] == [2, 2]


def test_the_table_fits_a_terminal(record):
    lines = text_table(record).splitlines()
    assert all(columns(line) <= WIDTH for line in lines)
    assert lines[0].split()[:3] == ["variant", "size", "accuracy"]
    row = next(line for line in lines if line.startswith("int8-per-tensor "))
    assert row.endswith("FAILED")
    assert re.search(r"-\d+\.\d\d \(-\d+\.\d\d to -\d+\.\d\d\)", row)
    assert next(line for line in lines if line.startswith("edgetpu ")).endswith("LEFT OUT")
    starts = {line.index("passed") for line in lines if line.endswith("passed")}
    assert starts == {lines[0].index("verdict")}


def test_markdown_says_the_same(record):
    written = render(record)
    assert written.startswith("# Conversion of pets\n")
    assert recommendation(record) in written
    rows = [line for line in written.splitlines() if line.startswith("| int8 ")]
    assert rows[0].count(" | ") == written.splitlines()[4].count(" | ")
    assert "- edgetpu: no edgetpu\\_compiler on PATH" in written
    assert "## Steps of int8\n" in written
    assert re.search(r"\| 500 +\| +95.70 % \| +96.70 % \|", written)


@pytest.mark.parametrize(("value", "expected"), [(-0.004, "0.00"), (0.0, "0.00"), (1.25, "+1.25"), (-0.25, "-0.25")])
def test_a_change_has_a_sign_unless_it_is_none(value, expected):
    assert signed(value) == expected


def test_why_an_artifact_failed():
    record = sample_record(variants=(Variant.FLOAT32, Variant.INT8_PER_TENSOR))
    float32, int8 = record.variants
    assert wording.failure(float32) == ""
    assert wording.failure(int8).startswith("lost ")
    check = replace(float32.comparison.check, passed=False, max_probability_difference=0.0123)
    wrong = replace(float32, comparison=replace(float32.comparison, check=check))
    assert wording.failure(wrong) == "a probability differs from Keras' by 1.2e-02, more than the allowed 1e-04"


def test_it_names_the_fastest_here_the_smallest_and_what_to_try_elsewhere():
    record = with_figures(sample_record(), Variant.FLOAT32, latency_ms=0.5, drop_points=0.0)
    assert recommendation(with_figures(record, Variant.DYNAMIC, drop_points=0.25)) == (
        "On this machine's processor take float32, the fastest here of those that passed (0.500 ms, 0.00 points), and "
        "for the smallest file take dynamic (0.590 MB, -0.25 points); on an Arm board try int8 first, "
        "probably the fastest there, and measure; an Edge TPU needs int8 too; MediaPipe opens float32 and int8; "
        "ONNX Runtime takes onnx-int8."
    )


def test_of_those_that_are_as_fast_it_takes_the_one_that_lost_least():
    record = sample_record(variants=INT8)
    as_fast = with_figures(record, Variant.INT8, latency_ms=record.variants[0].latency_ms * 0.97, drop_points=0.5)
    assert "take float32, as fast here as any that passed" in recommendation(as_fast)
    faster = with_figures(record, Variant.INT8, latency_ms=record.variants[0].latency_ms * 0.9, drop_points=0.5)
    assert "take int8, the fastest here of those that passed and the smallest (0.639 ms, 0.640 MB, -0.50 points)" in (
        recommendation(faster)
    )


def test_what_failed_is_never_recommended():
    record = with_figures(sample_record(variants=INT8), Variant.INT8, passed=False, latency_ms=0.1)
    assert recommendation(record) == (
        "Take float32, the only variant that passed (1.65 MB, 0.710 ms here); no int8 passed for an Arm board or an "
        "Edge TPU, so measure float32 on the board; MediaPipe opens float32."
    )
    per_tensor = with_figures(sample_record(), Variant.INT8, passed=False)
    per_tensor = with_figures(per_tensor, Variant.INT8_PER_TENSOR, passed=True)
    assert "try int8-per-tensor first" in recommendation(per_tensor)


def test_nothing_is_presumed_on_arm_nor_without_latency():
    record = sample_record(variants=INT8)
    on_arm = recommendation(replace(record, machine="Raspberry Pi 5, 4 cores, aarch64"))
    assert "probably" not in on_arm
    assert "On this machine's processor take float32" in on_arm
    for variant in INT8:
        record = with_figures(record, variant, latency_ms=0.0)
    assert recommendation(record).startswith("For the smallest file take int8 (0.640 MB, ")
    assert "fastest here" not in recommendation(record)


def test_when_none_passed_it_says_which_came_closest():
    record = sample_record(variants=(Variant.INT8, Variant.INT8_PER_TENSOR))
    record = with_figures(record, Variant.INT8, passed=False, drop_points=1.25)
    assert recommendation(record) == (
        "No variant passed; the closest to Keras is int8 (lost 1.25 points, more than the allowed 1)."
    )


@pytest.mark.parametrize("dropped", range(8))
def test_it_is_one_sentence_and_promises_no_ratio(dropped):
    record = sample_record(images=50)
    sentence = recommendation(replace(record, variants=record.variants[:dropped] + record.variants[dropped + 1 :]))
    assert re.fullmatch(r"[A-Z]((?!\. ).)*\.", sentence)
    assert "times" not in sentence
