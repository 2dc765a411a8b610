"""What the HTML reports share: one style, escaped text, small images, plots that are the same bytes each time."""

import base64

import cv2
import jinja2
import numpy as np
import pytest

from edge_runtime.workstation.reporting.pages import render_html, thumbnail_url
from edge_runtime.workstation.reporting.plots import new_figure, png_url, svg_url
from support.files import put
from support.paths import CHECKOUT
from support.programs import run_code


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package with a template of its own."""
    put(tmp_path, "somebody/__init__.py")
    template = '{% extends "base.html" %}{% block body %}<p>{{ name }}</p>{{ share | half }}{% endblock %}'
    put(tmp_path, "somebody/templates/page.html", template)
    monkeypatch.syspath_prepend(tmp_path)
    return "somebody"


def test_a_page_has_the_style_and_escapes_what_users_wrote(package):
    page = render_html(package, "page.html", {"name": "<b>\udce9", "share": 3}, {"half": lambda value: value / 2})
    assert "--muted: #5c6670" in page
    assert "<p>&lt;b&gt;?</p>1.5" in page
    assert page.endswith("</body>\n</html>")


def test_a_value_that_is_missing_is_an_error(package):
    with pytest.raises(jinja2.UndefinedError, match="name"):
        render_html(package, "page.html", {"share": 3}, {"half": str})


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("train", "report.html"),
        ("train", "audit.html"),
        ("convert.report", "conversion.html"),
        ("benchmarks.report", "report.html"),
        ("benchmarks.comparison", "compare.html"),
    ],
)
def test_every_report_extends_the_base(package, name):
    root = CHECKOUT.joinpath(*package.split("."))
    assert (root / "templates" / name).read_text().startswith('{% extends "base.html" %}\n')


@pytest.mark.parametrize(("shape", "expected"), [((32, 32), (96, 96)), ((200, 100), (160, 80)), ((1, 300), (1, 160))])
def test_images_of_any_size_are_shown(shape, expected):
    url = thumbnail_url(np.full((*shape, 3), (250, 10, 10), np.uint8))
    data = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
    image_hwc_bgr_u8 = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert image_hwc_bgr_u8.shape[:2] == expected
    assert image_hwc_bgr_u8[..., 2].mean() > 200 > 60 > image_hwc_bgr_u8[..., 0].mean()


def test_the_same_plot_is_the_same_bytes():
    def draw():
        figure, axes = new_figure((3, 2), "x", "y", title="a title")
        axes.plot([1, 2], [3, 4], marker="o")
        return svg_url(figure), png_url(figure, 50)

    assert draw() == draw()
    assert draw()[0].startswith("data:image/svg+xml;base64,")
    assert draw()[1].startswith("data:image/png;base64,")


def test_a_device_never_loads_it():
    run_code(
        "import sys, edge_runtime.commands.camera, edge_runtime.commands.classify, edge_runtime.classifier\n"
        "unwanted = ('edge_runtime.workstation.reporting', 'jinja2')\n"
        "assert not [name for name in sys.modules if name.startswith(unwanted)]"
    )
