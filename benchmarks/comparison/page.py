"""``compare.html``: one file that needs no network and no script, and can be mailed."""

from __future__ import annotations

from benchmarks.comparison.record import Comparison
from benchmarks.comparison.render import conclusion, detail_table, methods, notices, summary_table


def render_page(comparison: Comparison) -> str:
    """Make the whole page.

    Names of reports, labels and errors come from users, so the template escapes everything.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("benchmarks.comparison"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("compare.html").render(
        comparison=comparison,
        conclusion=conclusion(comparison),
        notices=list(notices(comparison)),
        methods=methods(comparison),
        summary=summary_table(comparison),
        detail=detail_table(comparison),
    )
    # Names of files may hold bytes that are no text.
    return page.encode("utf-8", "replace").decode("utf-8")
