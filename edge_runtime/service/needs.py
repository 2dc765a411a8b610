"""Machine resources that a command line of ``edge-run camera`` needs, and quoting in a unit file."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from edge_runtime.cli_support import Option, Resource
from edge_runtime.errors import UsageError
from edge_runtime.strict import open_regular
from edge_runtime.text import hide_secrets

_MAX_ENVIRONMENT_BYTES = 1 << 20
_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "%": "%%"}
_FIRST_SURROGATE, _LAST_SURROGATE = 0xDC80, 0xDCFF
STATE, LOGS, CACHE = Path("/var/lib"), Path("/var/log"), Path("/var/cache")
_LOOPBACK = ("", "127.0.0.1", "localhost", "[::1]", "::1")


@dataclass
class Needs:
    """Needs of one camera command, collected option by option.

    Attributes:
        words: Arguments after ``camera``, quoted for a unit.
        read: Files and folders to read.
        credentials: Path of each secret by its credential name.
        logs: True if something is written to the logs directory.
        camera: ``v4l2``, ``picamera`` or None.
        outside: True if it connects to other machines.
        loopback: True if it serves a page on this machine.
        prints: True if its standard output goes to the journal.
    """

    words: list[str] = field(default_factory=list)
    read: list[Path] = field(default_factory=list)
    credentials: dict[str, Path] = field(default_factory=dict)
    logs: bool = False
    camera: str | None = None
    outside: bool = False
    loopback: bool = False
    prints: bool = True


def read_needs(name: str, context: click.Context, arguments: Sequence[str], environment: Path | None) -> Needs:
    """Derive the needs from a camera command line that click has accepted.

    Args:
        name: Name of the service and of its directories below /var.
        context: Click context made from ``arguments``.
        arguments: Command line words after ``camera``.
        environment: File whose variables may set options, such as EDGEKIT_SOURCE, or None.

    Raises:
        UsageError: A secret on the command line, a missing file, or a place that the service cannot write.
    """
    raw, _, order = context.command.make_parser(context).parse_args(list(arguments))
    needs = Needs()
    needs.words.append(quote_word(_existing("MODEL|BUNDLE", str(raw["model"]), needs)))
    for option in dict.fromkeys(parameter for parameter in order if isinstance(parameter, click.Option)):
        value = raw[option.name or ""]
        if option.is_flag:
            needs.words.append(max((not value and option.secondary_opts) or option.opts, key=len))
            continue
        texts = [str(item) for item in value] if isinstance(value, (list, tuple)) else [str(value)]
        needs.words += [_add_value(needs, name, option, text, context) for text in texts]
    for unset in context.command.params:
        if isinstance(unset, Option) and isinstance(unset.envvar, str) and unset.name not in raw:
            default = unset.default if isinstance(unset.default, str) else ""
            _grant(needs, unset.resource, _variable(environment, unset.envvar) or default)
    return needs


def _add_value(needs: Needs, name: str, option: click.Option, text: str, context: click.Context) -> str:
    """Add what one value needs, and return its word in the unit."""
    flag = max(option.opts, key=len)
    resource = option.resource if isinstance(option, Option) else None
    if resource is Resource.SECRET_FILE:
        credential = flag.strip("-").removesuffix("-file")
        needs.credentials[credential] = Path(_existing(flag, text, None))
        return f"{flag}=%d/{credential}"  # systemd's name for the folder of the unit's credentials
    if resource in (Resource.SOURCE, Resource.REMOTE_ADDRESS) and hide_secrets(text) != text:
        raise UsageError(f"{flag}: a password in a unit file can be read by everyone; {_hiding(option, context)}")
    if resource is Resource.WRITE_PATH:
        text = str(_written(needs, name, flag, text))
    elif resource is Resource.READ_PATH or (resource is Resource.SOURCE and source_kind(text) == "file"):
        text = _existing(flag, text, needs)
    _grant(needs, resource, text)
    return quote_word(f"{flag}={text}")


def _grant(needs: Needs, resource: Resource | None, text: str) -> None:
    """Add the device or network that a value needs; an empty value needs none."""
    if not text:
        return
    if resource is Resource.SOURCE:
        kind = source_kind(text)
        needs.camera = kind if kind in ("v4l2", "picamera") else None
        needs.outside |= kind == "network"
    elif resource is Resource.REMOTE_ADDRESS:
        needs.outside = True
    elif resource is Resource.LISTEN_ADDRESS:
        is_local = text.rpartition(":")[0] in _LOOPBACK
        needs.loopback |= is_local
        needs.outside |= not is_local


def _hiding(option: click.Option, context: click.Context) -> str:
    """Explain how to give the password of an address to the service."""
    flag = max(option.opts, key=len)
    if option.envvar:
        return (
            f"write {option.envvar}=ADDRESS into a file with mode 0600, and give that as "
            f"--environment FILE instead of {flag}"
        )
    files = (
        other.flag
        for other in context.command.params
        if isinstance(other, Option) and other.goes_with == option.name and other.resource is Resource.SECRET_FILE
    )
    return f"leave it out and give {next(files, 'a file')} FILE"


def _existing(what: str, text: str, needs: Needs | None) -> str:
    """Return the absolute path of an existing file; without ``needs`` it may be readable by root only."""
    path = Path(text).absolute()
    try:
        path.stat()
    except OSError as error:
        if needs is not None or not isinstance(error, PermissionError):
            raise UsageError(
                f"{what}: {path} cannot be read ({error.strerror}); give a file that the service can read"
            ) from error
    if needs is not None:
        needs.read.append(path)
    return str(path)


def _written(needs: Needs, name: str, flag: str, text: str) -> Path:
    places = [base / name for base in (STATE, LOGS, CACHE)]
    path = Path(os.path.normpath(places[0] / text))
    if not any(path.is_relative_to(place) and path != place for place in places):
        raise UsageError(
            f"{flag} {text}: the service may write only below {', '.join(map(str, places))}; "
            f"give a relative path, which lies in {places[0]}"
        )
    needs.logs |= path.is_relative_to(places[1])
    return path


def _variable(environment: Path | None, name: str) -> str | None:
    """Read a variable from a file; None where it is not set, and some address where the file may not be read."""
    if environment is None:
        return None
    try:
        with open_regular(environment) as file:
            text = file.read(_MAX_ENVIRONMENT_BYTES).decode("utf-8", "replace")
    except OSError as error:
        if not isinstance(error, PermissionError):
            raise UsageError(f"--environment {environment}: cannot be read ({error.strerror})") from error
        return "network://"
    found = re.findall(rf"^{name}=[\"']?([^\"'\n]*)", text, re.MULTILINE)
    return found[-1] if found else None


def source_kind(text: str) -> str:
    """Classify a source: ``v4l2``, ``picamera``, ``network`` or ``file``."""
    if text.isdecimal() or text.startswith("/dev/"):
        return "v4l2"
    if text.startswith("picamera"):
        return "picamera"
    return "network" if re.match(r"[A-Za-z][A-Za-z0-9]*://", text) else "file"


def quote_word(word: str) -> str:
    """Quote one word of ``ExecStart=:...`` or of a list of paths, so that systemd reads back exactly ``word``.

    With the colon before the program systemd leaves ``$`` alone, so it is not escaped here.

    Args:
        word: Any text without a zero character; undecodable bytes as surrogates.
    """
    if _PLAIN.fullmatch(word):
        return word
    return '"' + "".join(_quote_char(char) for char in word) + '"'


def _quote_char(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if _FIRST_SURROGATE <= ord(char) <= _LAST_SURROGATE:
        return f"\\x{os.fsencode(char)[0]:02x}"
    if char.isprintable():
        return char
    # systemd accepts control characters of Unicode, but a line separator would break the line on a screen.
    return "".join(f"\\x{byte:02x}" for byte in char.encode())
