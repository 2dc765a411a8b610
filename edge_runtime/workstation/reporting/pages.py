"""Render a template to one self-contained HTML page, with images embedded as small JPEGs."""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from markupsafe import Markup

    from edge_runtime.preprocess import ImageU8

_FILTERS = ("megabytes", "milliseconds", "p_value", "joined")
_SMALLEST_SIDE_PX = 96
_SCRIPT = "house.js"
# Only headings of templates match: what users wrote is escaped.
_HEADING = re.compile(r"<h2(?: id=\"([^\"]+)\")?>(.*?)</h2>", re.DOTALL)
_LEAST_HEADINGS = 3


def render_html(
    package: str,
    template: str,
    values: Mapping[str, object],
    filters: Mapping[str, Callable[..., object]] | None = None,
) -> str:
    """Render a page.

    Labels, file names and messages come from users, so everything is escaped, and the page's Content-Security-Policy
    lets it load nothing and run no script but its own, by hash. A template extends ``base.html`` with the blocks
    ``title``, ``style`` and ``body``; a list of its ``h2`` headings is put before the first of them. ``macros.html``
    has images that grow on a click. The functions of `wording` are filters: ``{{ share | percent }}``.

    Args:
        package: Package whose folder ``templates`` holds the template, such as ``convert.report``.
        template: File name of the template.
        values: Values by the names that the template uses; a missing one is an error.
        filters: Additional filters by name.
    """
    import jinja2

    from edge_runtime.workstation.reporting import wording

    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader(package), jinja2.PackageLoader("edge_runtime.workstation.reporting")]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({name: getattr(wording, name) for name in _FILTERS})
    environment.filters["percent"] = functools.partial(wording.percent, space=wording.NO_BREAK_SPACE)
    environment.filters["with_contents"] = _with_contents
    environment.filters.update(filters or {})
    environment.globals["percent_range"] = wording.percent_range
    page = environment.get_template(template).render({**_script(environment), **values})
    # File names may hold bytes that are no text.
    return page.encode("utf-8", "replace").decode("utf-8")


def _script(environment: Any) -> dict[str, object]:
    """Read the pages' script, and hash it as Content-Security-Policy wants it."""
    from markupsafe import Markup

    script = environment.loader.get_source(environment, _SCRIPT)[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {"script": Markup(script), "script_hash": digest}  # noqa: S704 - a file of this package


def _with_contents(body: Markup) -> Markup:
    """Give every ``h2`` an id and a way back, and put a list of them before the first."""
    from markupsafe import Markup

    numbers, entries = itertools.count(1), []

    def numbered(heading: re.Match[str]) -> str:
        name = heading[1] or f"section-{next(numbers)}"
        entries.append(f'<li><a href="#{name}">{re.sub(r"<span.*?</span>|<[^>]*>", "", heading[2]).strip()}</a></li>')
        return f'<h2 id="{name}">{heading[2]}<a class="up" href="#contents" title="Contents">↑</a></h2>'

    first = _HEADING.search(body)
    text = _HEADING.sub(numbered, body)
    if first is None or len(entries) < _LEAST_HEADINGS:
        return body
    listed = f'<nav class="contents" id="contents" aria-label="Contents"><ul>{"".join(entries)}</ul></nav>\n'
    return Markup(text[: first.start()] + listed + text[first.start() :])  # noqa: S704 - escaped by the template


def jpeg_url(image_hwc_rgb_u8: ImageU8, quality: int) -> str:
    """Encode an image as a JPEG data URL.

    Args:
        image_hwc_rgb_u8: uint8 [height, width, 3], RGB.
        quality: JPEG quality, 0..100.
    """
    import cv2

    image_hwc_bgr_u8 = cv2.cvtColor(image_hwc_rgb_u8, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", image_hwc_bgr_u8, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError("OpenCV cannot encode JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def thumbnail_url(image_hwc_rgb_u8: ImageU8, *, side_px: int = 160, quality: int = 78) -> str:
    """Encode a small copy of an image as a JPEG data URL.

    Tiny images are enlarged by a whole factor without smoothing, so that the model's input pixels are visible.

    Args:
        image_hwc_rgb_u8: uint8 [height, width, 3], RGB.
        side_px: Longest side of the copy, in pixels.
        quality: JPEG quality, 0..100.
    """
    import cv2

    height, width = image_hwc_rgb_u8.shape[:2]
    longest = max(height, width)
    scale = side_px / longest if longest > side_px else max(1, _SMALLEST_SIDE_PX // longest)
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    small = cv2.resize(image_hwc_rgb_u8, size_wh, interpolation=interpolation)
    return jpeg_url(small.astype("uint8", copy=False), quality)
