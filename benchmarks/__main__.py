"""Entry point of ``edge-bench``: Ctrl-C while the command line is loaded ends it without a traceback."""

from __future__ import annotations

from edge_runtime.platform.process import end_silently


def main() -> None:
    """Load the command line and run it."""
    end_silently()
    from benchmarks.cli import main as run

    run()


if __name__ == "__main__":
    main()
