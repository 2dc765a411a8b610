"""Reports as a browser shows them from a file: on a phone, in the dark, with the keyboard alone."""

import dataclasses

import pytest

from benchmarks.overview import BENCHMARKS, Cell, Entry, Overview, render_overview
from benchmarks.report.page import read_tiles, render_page
from benchmarks.report.verdict import verdict
from support.browser import open_tab
from support.files import put
from support.reports import sample_latencies, sample_report

pytestmark = pytest.mark.slow
OPEN = "document.querySelectorAll('details.grow[open]').length"
FIRST = "document.querySelector('details.grow summary')"


@pytest.fixture
def tab(tmp_path):
    with open_tab(tmp_path / "profile") as opened:
        yield opened


def press(tab, key, code):
    for kind in ("keyDown", "keyUp"):
        text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
        tab.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)


def click(tab, expression):
    corner = f"(({{ x, y }}) => `${{x + 9}} ${{y + 9}}`)({expression}.getBoundingClientRect())"
    x, y = tab.value(corner).split()
    for kind in ("mousePressed", "mouseReleased"):
        tab.call("Input.dispatchMouseEvent", type=kind, x=float(x), y=float(y), button="left", clickCount=1)


def show(tab, tmp_path, page, width=390):
    tab.call("Emulation.setDeviceMetricsOverride", width=width, height=844, deviceScaleFactor=1, mobile=width < 500)
    tab.open(put(tmp_path, "page.html", page).as_uri())
    tab.until("document.readyState === 'complete' && document.title !== ''")


@pytest.mark.parametrize("width", [390, 1280])
def test_an_image_grows_on_a_click_or_enter_and_shrinks_on_escape(tab, tmp_path, width):
    made = sample_report()
    made = dataclasses.replace(made, verdict=verdict(made.subjects, (), made.machine))
    show(tab, tmp_path, render_page(made, sample_latencies(), read_tiles(made)), width)
    assert tab.value("document.documentElement.scrollWidth <= innerWidth")
    tab.value(f"{FIRST}.focus(), {FIRST}.scrollIntoView({{block: 'center'}})")
    before = tab.value(f"{FIRST}.querySelector('img').getBoundingClientRect().width")
    press(tab, "Enter", 13)
    assert tab.until(OPEN) == 1
    assert tab.value(f"{FIRST}.querySelector('img').getBoundingClientRect().width") > 1.2 * before
    assert tab.value(f"{FIRST}.getBoundingClientRect().width === document.documentElement.clientWidth")
    press(tab, "Escape", 27)
    tab.until(f"{OPEN} === 0")
    click(tab, FIRST)
    assert tab.until(OPEN) == 1
    click(tab, FIRST)
    tab.until(f"{OPEN} === 0")
    assert tab.complaints == []


@pytest.mark.parametrize(("scheme", "is_dark"), [("light", False), ("dark", True)])
def test_the_page_follows_the_colour_scheme(tab, tmp_path, scheme, is_dark):
    tab.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    show(tab, tmp_path, render_page(sample_report(), {}, ()))
    red = int(tab.value("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/)[0]"))
    assert (red < 60) == is_dark


def test_a_heading_of_the_overview_sorts_and_sorts_back(tab, tmp_path):
    rows = [("b", 10.0), ("a", 9.0), ("c", None)]
    entries = [
        Entry(BENCHMARKS, 0.0, (Cell(name), Cell("" if key is None else f"{key} %", key), *[Cell("")] * 7))
        for name, key in rows
    ]
    show(tab, tmp_path, render_overview(Overview(tuple(entries), ())))
    names = "[...document.querySelectorAll('tbody th')].map(cell => cell.innerText).join('')"
    assert tab.value(names) == "bac"
    for column, expected in ((1, "abc"), (1, "bac"), (0, "abc"), (0, "cba")):
        tab.value(f"document.querySelectorAll('thead button')[{column}].click()")
        # What is missing stays last.
        assert tab.value(names) == expected
    assert tab.value("document.querySelector('[aria-sort]').ariaSort") == "descending"
    assert tab.complaints == []


def test_what_a_report_holds_cannot_run(tab, tmp_path):
    page = render_page(sample_report(), {}, ())
    evil = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    show(tab, tmp_path, page.replace("<h1>", f"<h1>{evil}", 1))
    tab.until("document.querySelector('h1 img').complete")
    assert "owned" not in tab.value("document.title")
    assert tab.complaints != []
