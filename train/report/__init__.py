"""The run's ``report.html``."""
