"""``compare.html``: one file that needs no network and no script, and can be mailed."""

from __future__ import annotations

from benchmarks.comparison.record import Comparison
from benchmarks.comparison.render import conclusion, detail_table, methods, notices, summary_table
from edge_runtime.reporting.pages import render_html


def render_page(comparison: Comparison) -> str:
    """Make the whole page.

    Names of reports, labels and errors come from users, so the template escapes everything.
    """
    return render_html(
        "benchmarks.comparison",
        "compare.html",
        {
            "comparison": comparison,
            "conclusion": conclusion(comparison),
            "notices": list(notices(comparison)),
            "methods": methods(comparison),
            "summary": summary_table(comparison),
            "detail": detail_table(comparison),
        },
    )
