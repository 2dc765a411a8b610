"""Render a template to one self-contained HTML page, with images embedded as small JPEGs."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_runtime.preprocess import ImageU8


def render_html(
    package: str,
    template: str,
    values: Mapping[str, object],
    filters: Mapping[str, Callable[..., object]] | None = None,
) -> str:
    """Make a page.

    Labels, file names and messages come from users, so everything is escaped. A template begins its own style with
    ``{% include "house.css" %}``.

    Args:
        package: Whose folder ``templates`` holds it, such as ``convert.report``.
        template: Its name there.
        values: By the names that it uses; one that is missing is an error.
        filters: Filters of its own.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(
            [jinja2.PackageLoader(package), jinja2.PackageLoader("edge_runtime.workstation.reporting")]
        ),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters or {})
    page = environment.get_template(template).render(values)
    # File names may hold bytes that are no text.
    return page.encode("utf-8", "replace").decode("utf-8")


_SMALLEST_SIDE_PX = 96


def jpeg_url(image_hwc_rgb_u8: ImageU8, quality: int) -> str:
    """An image as the address of an embedded image.

    Args:
        image_hwc_rgb_u8: uint8 [height, width, 3], RGB.
        quality: Of the JPEG, 0..100.
    """
    import cv2

    image_hwc_bgr_u8 = cv2.cvtColor(image_hwc_rgb_u8, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", image_hwc_bgr_u8, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError("OpenCV cannot encode JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def thumbnail_url(image_hwc_rgb_u8: ImageU8, *, side_px: int = 160, quality: int = 78) -> str:
    """A small copy of an image as the address of an embedded image.

    Tiny images are enlarged by a whole factor without smoothing: their pixels are what the model saw.

    Args:
        image_hwc_rgb_u8: uint8 [height, width, 3], RGB.
        side_px: Longest side that it may have.
        quality: Of the JPEG, 0..100.
    """
    import cv2

    height, width = image_hwc_rgb_u8.shape[:2]
    longest = max(height, width)
    scale = side_px / longest if longest > side_px else max(1, _SMALLEST_SIDE_PX // longest)
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    small = cv2.resize(image_hwc_rgb_u8, size_wh, interpolation=way)
    return jpeg_url(small.astype("uint8", copy=False), quality)
