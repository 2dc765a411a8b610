"""Shared parts of the command lines: exit codes, notes for a person, and options declared in one place."""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click

from edge_runtime.errors import EXIT_INTERRUPTED, EdgeKitError, MissingExtraError, UsageError

_DECLARED = "declared"
_Job = TypeVar("_Job")


def run_cli(command: click.Command) -> NoReturn:
    """Run a click command as a console script: an error is one sentence and an exit code, not a traceback."""
    try:
        result = command.main(standalone_mode=False)
        code = result if isinstance(result, int) else 0
        sys.stdout.flush()
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except EdgeKitError as error:
        click.echo(f"error: {error}", err=True)
        code = error.exit_code
    except BrokenPipeError:
        # The reader (head, less) has gone; keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def require_extra(command: str, extra: str, *packages: str) -> None:
    """Raise MissingExtraError for the first of ``packages`` (import names) that is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(command, extra, package)


def note(message: str) -> None:
    """Print one line for a person on standard error; standard output stays data."""
    click.echo(message, err=True)


class Resource(enum.Enum):
    """Resource that the value of an option names; a systemd unit grants the service this and no more."""

    SOURCE = "camera, address of a stream, or video file"
    READ_PATH = "file or folder to read"
    WRITE_PATH = "file or folder to write"
    SECRET_FILE = "file that holds a secret"  # noqa: S105
    REMOTE_ADDRESS = "address of another machine"
    LISTEN_ADDRESS = "[HOST:]PORT to serve at"


class Option(click.Option):
    """A click option with its help section and what else depends on it.

    Args:
        section: Heading in ``--help``.
        goes_with: Name of the option without which this one does nothing, or None.
        resource: Resource that the value names, or None.
    """

    def __init__(
        self,
        *arguments: Any,
        section: str = "Options",
        goes_with: str | None = None,
        resource: Resource | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(*arguments, **settings)
        self.section, self.goes_with, self.resource = section, goes_with, resource

    @property
    def flag(self) -> str:
        """The long spelling, ``--max-frames``."""
        return max(self.opts, key=len)


class SectionedCommand(click.Command):
    """A command whose help lists each `Option` under its section; options without one follow the last section."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections in the order of their first options."""
        sections: dict[str, list[tuple[str, str]]] = {}
        heading = "Options"
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record and isinstance(parameter, click.Option):
                heading = parameter.section if isinstance(parameter, Option) else heading
                sections.setdefault(heading, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def declare(section: str, *flags: str, **settings: Any) -> Any:
    """Declare a command line option as a dataclass field; its help text documents the field.

    Args:
        section: Heading in ``--help``.
        flags: Spellings, such as ``--fps`` or ``--loop/--no-loop``.
        settings: Arguments of `Option` and `click.Option`, such as ``help`` and ``default``.
    """
    settings["section"] = section
    return dataclasses.field(metadata={_DECLARED: (flags, settings)})


def with_options(job_type: type[_Job], name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a command with the options that a dataclass declares.

    Args:
        job_type: Dataclass; a field that is not declared by `declare` takes the value of the parameter of its name.
        name: Keyword under which the command gets the instance.

    An option on the command line without the option that it goes with raises UsageError, since it would do nothing.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        fields = dataclasses.fields(job_type)  # type: ignore[arg-type]

        @functools.wraps(function)
        def command(**values: Any) -> Any:
            job = job_type(**{field.name: values.pop(field.name) for field in fields})
            _refuse_options_without_effect(click.get_current_context())
            return function(**values, **{name: job})

        decorated: Callable[..., Any] = command
        for field in reversed(fields):
            if _DECLARED in field.metadata:
                flags, settings = field.metadata[_DECLARED]
                decorated = click.option(*flags, field.name, cls=Option, **settings)(decorated)
        return decorated

    return decorate


def _refuse_options_without_effect(context: click.Context) -> None:
    """Raise UsageError for an option on the command line without the option that it goes with."""
    options = {option.name: option for option in context.command.params if isinstance(option, Option)}
    for name, option in options.items():
        other = option.goes_with
        if other is None or context.params[other] is not None or name is None:
            continue
        if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise UsageError(f"{option.flag}: goes with {options[other].flag}, which is missing")
