"""Report of a run: ``report.html``."""
