"""Shared parts of the command lines: exit codes, notes, options declared in one place, output and interrupts."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import functools
import importlib.util
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn, TextIO, TypeVar

import click

from edge_runtime.errors import EXIT_INTERRUPTED, EdgeKitError, MissingExtraError, OutputError, UsageError

_DECLARED = "declared"
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_FORMATS_BY_SUFFIX = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
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


def choose_format(wanted: str | None, output: Path | None, default: str) -> str:
    """Choose the format of rows: the wanted one, else by the suffix of the output file, else the default."""
    by_suffix = _FORMATS_BY_SUFFIX.get(output.suffix.lower()) if output else None
    return wanted or by_suffix or default


@contextlib.contextmanager
def output_stream(output: Path | None, *, overwrite: bool, for_programs: bool) -> Iterator[TextIO]:
    """Open standard output, or a file that appears under its name when the block has ended without an error.

    Args:
        output: Path of the file, or None for standard output.
        overwrite: True to replace an existing file.
        for_programs: True to write UTF-8 whatever the terminal's encoding, for JSONL and CSV.

    Raises:
        OutputError: The file exists already or cannot be written.
    """
    if output is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8" if for_programs else None, errors="backslashreplace")
        yield sys.stdout
        return
    from edge_runtime.platform.atomic import atomic_file

    with (
        atomic_file(output, overwrite=overwrite) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream,
    ):
        yield stream


@contextlib.contextmanager
def write_errors() -> Iterator[None]:
    """Turn errors of writing rows or their header into OutputError.

    Raises:
        OutputError: The output cannot be written, for example because the disk is full.
        BrokenPipeError: The reader has gone, which is no error.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        _forget_stdout()
        raise OutputError(f"results cannot be written ({error.strerror}); free some space and run again") from error


class Interrupts:
    """Turns Ctrl-C and SIGTERM into KeyboardInterrupt, but not in the middle of a row.

    An exception during a write would leave half a line. So the first signal waits for the end of a `held` block; the
    second does not, since a write blocks for ever if the reader has stopped reading.

    Args:
        stop: Called at the first signal to end whatever the run waits for. It returns True if the run now ends
            normally by itself, so that nothing is raised. It runs in a signal handler and must not block.

    Attributes:
        stopped: True if the run ends by itself because of a signal.
    """

    def __init__(self, stop: Callable[[], bool] | None = None) -> None:
        self._holding = self._waiting = False
        self._stop = stop
        self.stopped = False

    def __enter__(self) -> Interrupts:
        self._previous = [(number, signal.signal(number, self._on_signal)) for number in _STOP_SIGNALS]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, previous in self._previous:
            signal.signal(number, previous)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Delay a first signal until the block has ended."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
        if self._waiting:
            raise KeyboardInterrupt

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        stop, self._stop = self._stop, None
        if stop and stop():
            self.stopped = True
        elif self._holding and not self._waiting:
            self._waiting = True
        else:
            raise KeyboardInterrupt


def _forget_stdout() -> None:
    """Redirect standard output to /dev/null, so that flushing its buffer at exit does not fail again."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
