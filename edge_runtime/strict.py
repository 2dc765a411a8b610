"""Strict reading of what others wrote: regular files only, and JSON or TOML into frozen dataclasses.

A named pipe or device in place of a file would block for ever or never end. An unknown field, a missing field or a
value of the wrong type is an error that names the field by its path, such as ``manifest.input.width``. Supported field
types: str, bool, int, float, str enums, nested dataclasses, ``X | None``, ``tuple[X, ...]`` and ``dict[str, X]``.
"""

from __future__ import annotations

import dataclasses
import enum
import errno
import json
import os
import stat
import sys
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from edge_runtime.errors import ManifestError, shorten

T = TypeVar("T")

_KINDS = {bool: "a boolean", str: "text", int: "an integer", float: "a number", list: "a list", dict: "a table"}
_INHERITED = ("/dev/fd/", "/dev/stdin", "/proc/")


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, or a pipe that the shell made (``<(...)``, ``/dev/stdin``).

    Raises:
        OSError: It cannot be opened, or is something else; ``strerror`` says what.
    """
    kind = irregularity(path)
    if kind:
        raise OSError(errno.EISDIR if kind == "a folder" else errno.EINVAL, f"expected a file, got {kind}", str(path))
    return path.open("rb")


def irregularity(path: Path | str) -> str | None:
    """Name what a path leads to if it is no regular file: a folder, named pipe, socket or device.

    Raises:
        OSError: There is nothing, or it cannot be examined.
    """
    mode = os.stat(path).st_mode  # noqa: PTH116  also for text
    if stat.S_ISREG(mode):
        return None
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return None if str(path).startswith(_INHERITED) else "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def from_mapping(cls: type[T], data: object, where: str, *, require_all: bool = True) -> T:
    """Build the dataclass ``cls`` from a mapping.

    Args:
        cls: Dataclass whose fields have supported types.
        data: Mapping from ``json.loads`` or ``tomllib.loads``.
        where: Path shown in error messages, such as ``"manifest"``.
        require_all: True to require fields with a default too.

    Returns:
        An instance of ``cls``; its own ``__post_init__`` checks have passed.

    Raises:
        ManifestError: A field is unknown, missing, of the wrong type or out of range.
    """
    if not isinstance(data, Mapping):
        raise ManifestError(f"{where}: expected a table of fields, got {_kind(data)}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, cls))}
    for name in data:
        if name not in fields:
            raise ManifestError(f"{where}.{name}: unknown field; known fields are {', '.join(fields)}")
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _parse(hints[name], data[name], f"{where}.{name}", require_all)
        elif require_all or (field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING):
            raise ManifestError(f"{where}.{name}: missing field")
    try:
        return cls(**values)
    except ValueError as error:
        raise ManifestError(f"{where}: {error}") from error


def from_json(cls: type[T], text: str | bytes, where: str, *, schema_version: int, max_bytes: int) -> T:
    """Build the dataclass ``cls``, which has a field ``schema_version``, from JSON.

    Args:
        cls: Dataclass whose fields have supported types.
        text: JSON text to parse.
        where: Path shown in error messages.
        schema_version: Only version that is accepted.
        max_bytes: Maximum length; longer text is refused before parsing.

    Raises:
        ManifestError: Not JSON, too long, another schema version, or a field unknown, missing or out of range.
    """
    if len(text) > max_bytes:
        raise ManifestError(f"{where}: expected at most {max_bytes} bytes, got {len(text)}")
    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ManifestError(f"{where}: not valid JSON ({error})") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version != schema_version:
        raise ManifestError(
            f"{where}.schema_version: expected {schema_version}, got {version}; "
            "use the edgekit release that wrote it, or make it anew with this one"
        )
    return from_mapping(cls, data, where)


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def to_mapping(value: Any) -> Any:
    """Turn a dataclass tree into dicts, lists and scalars that JSON and TOML writers take."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_mapping(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [to_mapping(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_mapping(item) for key, item in value.items()}
    return value


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "null" if value is None else type(value).__name__)


def _parse(hint: Any, value: object, where: str, require_all: bool) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        inner = [arg for arg in args if arg is not type(None)]
        return _parse(inner[0], value, where, require_all)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ManifestError(f"{where}: expected a list, got {_kind(value)}")
        return tuple(_parse(args[0], item, f"{where}[{i}]", require_all) for i, item in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ManifestError(f"{where}: expected a table, got {_kind(value)}")
        return {str(key): _parse(args[1], item, f"{where}.{key}", require_all) for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return from_mapping(typing.cast(Any, hint), value, where, require_all=require_all)
    return _parse_scalar(hint, value, where)


def _parse_scalar(hint: Any, value: object, where: str) -> Any:
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        choices = [member.value for member in hint]
        if value not in choices:
            raise ManifestError(f"{where}: expected one of {', '.join(choices)}, got {_shown(value)}")
        return hint(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError as error:
            raise ManifestError(
                f"{where}: expected a number of at most {sys.float_info.max:.2g}, got an integer of "
                f"{value.bit_length()} bits"
            ) from error
    if type(value) is hint:
        return value
    raise ManifestError(f"{where}: expected {_KINDS[hint]}, got {_kind(value)} ({_shown(value)})")


def _shown(value: object) -> str:
    """Format a value for a message; Python refuses integers of thousands of digits and deep nesting."""
    try:
        return shorten(repr(value))
    except (ValueError, RecursionError):
        return "a value too large to show"
