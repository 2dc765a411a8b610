"""Shared parts of the command lines: exit codes, notes, options declared in one place, output and interrupts."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import errno
import functools
import importlib.util
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO, TypeVar

import click

from edge_runtime.errors import (
    EXIT_FAULT,
    EXIT_INTERRUPTED,
    EdgeKitError,
    MissingExtraError,
    OutputError,
    UsageError,
    shorten,
)
from edge_runtime.platform.process import open_standard_streams, outside_imports, raise_interrupts
from edge_runtime.text import escape, escape_lines, hide_secrets

_DECLARED = "declared"
DEBUG_VARIABLE = "EDGEKIT_DEBUG"
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
_BROKEN = (errno.EIO, errno.EBADF)  # a terminal that has gone, standard output that was closed
_UNUSABLE_NAMES = (errno.ENAMETOOLONG, errno.ELOOP)
_SHOWN = 200
_FORMATS_BY_SUFFIX = {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_Job = TypeVar("_Job")


def run_cli(command: click.Command) -> NoReturn:
    """Run a click command as a console script: an error is one sentence and an exit code, not a traceback.

    ``EDGEKIT_DEBUG=1`` shows the traceback as well.
    """
    open_standard_streams()
    raise_interrupts()
    code = _run(command)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_stdout()
    except OSError as error:
        code = _complain(error) or code
    sys.exit(code)


def _run(command: click.Command) -> int:
    """Invoke a command with the arguments of this process, and return its exit code."""
    name = Path(sys.argv[0]).name
    try:
        if f"_{name.replace('-', '_').upper()}_COMPLETE" in os.environ:
            command.main(prog_name=name)  # completes words for a shell, and exits
        # Not `command.main`, which takes EOFError for Ctrl-C and a closed pipe for a failure.
        with command.make_context(name, sys.argv[1:]) as context:
            result = command.invoke(context)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001  the last net: a fault of edgekit is one sentence, too
        if outside_imports.signalled:
            return EXIT_INTERRUPTED  # whatever an interrupted import led to
        return _complain(error)


def _complain(error: Exception) -> int:
    """Print one sentence about an error, and return the exit code."""
    if isinstance(error, BrokenPipeError) and _has_no_reader():
        # The reader (head, less) has gone, which is no error.
        _forget_stdout()
        return 0
    if os.environ.get(DEBUG_VARIABLE):
        import traceback

        note(*hide_secrets("".join(traceback.format_exception(error))).split("\n"))
    if isinstance(error, click.ClickException):
        shown = io.StringIO()
        error.show(shown)
        note(*hide_secrets(shown.getvalue().rstrip("\n")).split("\n"))
        return error.exit_code
    known = _in_words(error)
    text = hide_secrets(f"error: {known}")
    note(*(text.split("\n") if known.keeps_lines else [text]))
    return known.exit_code


def _in_words(error: Exception) -> EdgeKitError:
    """Turn any error into one with a sentence and an exit code."""
    if isinstance(error, EdgeKitError):
        return error
    if isinstance(error, OSError):
        where = f"{shorten(str(error.filename), _SHOWN)}: " if error.filename else "the output "
        if error.errno in _UNWRITABLE or (error.errno in _BROKEN and not error.filename):
            _forget_stdout()
            return OutputError(f"{where}cannot be written ({error.strerror}); free some space or choose another place")
        if error.errno in _UNUSABLE_NAMES:
            return UsageError(f"{where}{error.strerror}; expected a shorter name")
    if isinstance(error, MemoryError):
        return EdgeKitError("memory ran out; close other programs, or take a smaller model or fewer --workers")
    return _FaultError(
        f"edgekit has a fault ({type(error).__name__}: {shorten(str(error), _SHOWN)}); please report it together with "
        f"the output of the same command under {DEBUG_VARIABLE}=1"
    )


class _FaultError(EdgeKitError):
    """A fault of edgekit itself."""

    exit_code = EXIT_FAULT


def require_extra(command: str, extra: str, *packages: str) -> None:
    """Raise MissingExtraError for the first of ``packages`` (import names) that is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(command, extra, package)


def say(text: str) -> None:
    """Print lines for a person on standard output; control characters in them are escaped."""
    click.echo(escape_lines(text))


def note(*lines: str) -> None:
    """Print lines for a person on standard error; standard output stays data.

    Control characters are escaped; a closed or full standard error is no reason to stop.
    """
    with contextlib.suppress(OSError):
        for line in lines:
            click.echo(escape(line), err=True)


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

    with atomic_file(output, overwrite=overwrite) as temporary:
        stream = temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="")
        try:
            yield stream
            with write_errors():
                stream.flush()
        finally:
            with contextlib.suppress(OSError):  # what it still holds after an error
                stream.close()


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


def _has_no_reader() -> bool:
    """Tell whether the reader of standard output has closed the pipe."""
    import select

    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (OSError, ValueError, AttributeError):
        return False


def _forget_stdout() -> None:
    """Redirect standard output to /dev/null, so that flushing its buffer at exit does not fail again."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
