"""From a template to a page: one file that needs no network and no script, and can be mailed."""

from __future__ import annotations

from collections.abc import Callable, Mapping


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
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package), jinja2.PackageLoader("edge_runtime.reporting")]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters or {})
    page = environment.get_template(template).render(values)
    # File names may hold bytes that are no text.
    return page.encode("utf-8", "replace").decode("utf-8")
