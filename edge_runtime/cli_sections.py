"""Help of a command with many options, in sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click


class SectionedCommand(click.Command):
    """A command whose help lists options under headings.

    Args:
        sections: Name of the first option of each section, in the order of the options, to the section's heading.
    """

    def __init__(self, *arguments: Any, sections: Mapping[str, str], **others: Any) -> None:
        super().__init__(*arguments, **others)
        self._sections = sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections."""
        found: dict[str, list[tuple[str, str]]] = {}
        heading = "Options"
        for parameter in self.get_params(ctx):
            heading = self._sections.get(parameter.name or "", heading)
            record = parameter.get_help_record(ctx)
            if record and isinstance(parameter, click.Option):
                found.setdefault(heading, []).append(record)
        for title, records in found.items():
            with formatter.section(title):
                formatter.write_dl(records)
