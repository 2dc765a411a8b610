"""Machine resources that the arguments of ``edge-run camera`` need, and their quoting in a unit file."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from edge_runtime.errors import UsageError
from edge_runtime.platform.net import without_password

_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "%": "%%"}
_FIRST_SURROGATE, _LAST_SURROGATE = 0xDC80, 0xDCFF


def quote_word(word: str) -> str:
    """One word of ``ExecStart=:...`` or of a list of paths, so that systemd reads back exactly ``word``.

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
    if char.isprintable() or ord(char) > 0x7E:
        # systemd refuses control characters of Unicode nowhere, but a line separator would puzzle a reader.
        return char if char.isprintable() else "".join(f"\\x{byte:02x}" for byte in char.encode())
    return f"\\x{ord(char):02x}"


STATE, LOGS, CACHE = Path("/var/lib"), Path("/var/log"), Path("/var/cache")
_WRITTEN = ("output", "save_frames")
_SECRET_FILES = ("mqtt_password_file", "web_token_file")
_ADDRESSES = ("source", "webhook", "mqtt")
_LOOPBACK = ("", "127.0.0.1", "localhost", "[::1]", "::1")


@dataclass
class Needs:
    """What one camera command needs; built up option by option.

    Attributes:
        words: The arguments after ``camera``, quoted for a unit.
        read: Files and folders that are read.
        credentials: Name and file of each secret.
        logs: Whether something is written to the logs directory.
        camera: ``v4l2``, ``picamera`` or None.
        outside: Whether it speaks to other machines.
        loopback: Whether it serves a page on this machine.
        prints: Whether its standard output is worth keeping.
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
    """Go through a camera command line that click has accepted.

    Args:
        name: Of the service, and of its directories below /var.
        context: Click's, made from ``arguments``.
        arguments: As typed.
        environment: A file whose EDGEKIT_SOURCE may name the source, or None.

    Raises:
        UsageError: A secret on the command line, a file that is not there, or a place that it could not write.
    """
    raw, _, order = context.command.make_parser(context).parse_args(list(arguments))
    raw.setdefault("source", _source_of(environment))
    needs = Needs()
    seen: set[str | None] = set()
    needs.words.append(quote_word(_existing("MODEL|BUNDLE", str(raw["model"]), needs)))
    for parameter in order:
        if isinstance(parameter, click.Option) and parameter.name not in seen:
            seen.add(parameter.name)
            _add_option(needs, name, parameter, raw[parameter.name or ""])
    _add_source(needs, raw["source"])
    _add_network(needs, raw)
    if "every" not in raw and "format" not in raw:
        # A line for each frame would wear out a memory card.
        needs.prints = "output" not in raw
        if needs.prints:
            needs.words.append("--every=event")
    return needs


def _add_option(needs: Needs, name: str, option: click.Option, value: object) -> None:
    flag = max(option.opts, key=len)
    if option.is_flag:
        needs.words.append(flag if value else max(option.secondary_opts or option.opts, key=len))
        return
    texts = [str(item) for item in value] if isinstance(value, (list, tuple)) else [str(value)]
    needs.words += [_option_word(needs, name, option, flag, text) for text in texts]


def _option_word(needs: Needs, name: str, option: click.Option, flag: str, text: str) -> str:
    if option.name in _SECRET_FILES:
        credential = flag.strip("-").removesuffix("-file")
        needs.credentials[credential] = Path(_existing(flag, text, None))
        return f"{flag}=%d/{credential}"  # systemd's name for the folder of the unit's credentials
    if option.name in _ADDRESSES:
        _refuse_password(flag, text)
    if option.name in _WRITTEN:
        text = str(_written(needs, name, flag, text))
    elif isinstance(option.type, click.Path) or (option.name == "source" and source_kind(text) == "file"):
        text = _existing(flag, text, needs)
    return quote_word(f"{flag}={text}")


def _existing(what: str, text: str, needs: Needs | None) -> str:
    """The absolute path of something that is there; without ``needs`` it may be for root's eyes only."""
    path = Path(text).absolute()
    try:
        path.stat()
    except OSError as error:
        if needs is not None or not isinstance(error, PermissionError):
            raise UsageError(
                f"{what}: {path} cannot be read ({error.strerror}); give a file that the service is to read"
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
            f"give a relative path, which will lie in {places[0]}"
        )
    needs.logs |= path.is_relative_to(places[1])
    return path


def source_kind(text: str) -> str:
    """``v4l2``, ``picamera``, ``network`` or ``file``."""
    if text.isdecimal() or text.startswith("/dev/"):
        return "v4l2"
    if text.startswith("picamera"):
        return "picamera"
    return "network" if re.match(r"[A-Za-z][A-Za-z0-9]*://", text) else "file"


def _source_of(environment: Path | None) -> str:
    """The source that a file of variables names; an address where it may not be read, and camera 0 without a file."""
    if environment is None:
        return "0"
    try:
        text = environment.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        if not isinstance(error, PermissionError):
            raise UsageError(f"--environment {environment}: cannot be read ({error.strerror})") from error
        return "network://"
    found = re.findall(r"^EDGEKIT_SOURCE=[\"']?([^\"'\n]*)", text, re.MULTILINE)
    return found[-1] if found else "0"


def _add_source(needs: Needs, source: object) -> None:
    kind = source_kind(str(source))
    needs.camera = kind if kind in ("v4l2", "picamera") else None
    needs.outside |= kind == "network"


def _add_network(needs: Needs, raw: dict[str, object]) -> None:
    needs.outside |= bool(raw.get("mqtt") or raw.get("webhook"))
    if raw.get("web"):
        host = str(raw["web"]).rpartition(":")[0]
        needs.loopback |= host in _LOOPBACK
        needs.outside |= host not in _LOOPBACK


def _refuse_password(flag: str, text: str) -> None:
    if without_password(text) == text:
        return
    remedy = (
        "use mqtt://USER@HOST and --mqtt-password-file FILE"
        if flag == "--mqtt"
        else f"write EDGEKIT_{flag.strip('-').upper()}=ADDRESS into a file that only root can read, and give that as "
        f"--environment FILE instead of {flag}"
    )
    raise UsageError(f"{flag}: a password in a unit file can be read by everyone; {remedy}")
