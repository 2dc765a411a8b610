"""A report without what is nobody's business: folders, names of users, addresses."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from benchmarks.records.report import Report
from edge_runtime.strict import from_mapping, to_mapping

_ADDRESS = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")
_ABSOLUTE = re.compile(r"(?<![\w.:/~-])(?:~[\w.-]*)?/(?:[^\s/'\"<>|:;,()]+/)*[^\s/'\"<>|:;,()]+")
_WINDOWS = re.compile(r"\b[A-Za-z]:\\[^\s'\"<>|]+")
_PICTURE = re.compile(r"data:[\w.+-]+/[\w.+-]+[;,]")
_LONGEST = 8_000
"""Characters of a text; a verdict has a few hundred, an embedded picture many thousands."""


def without_paths(report: Report) -> Report:
    """The same report with names where there were paths: of bundle, run and pictures, and in every sentence."""
    replacements = _replacements(report)
    data = _walk(to_mapping(report), lambda text: _clean(text, replacements))
    data["command"] = _bare_command(report.command)
    data["bundle"] = file_name(report.bundle)
    data["keras_run"] = None if report.keras_run is None else file_name(report.keras_run)
    data["data"]["source"] = file_name(report.data.source)
    for item, original in zip(data["data"]["unreadable"], report.data.unreadable, strict=True):
        item["file"] = file_name(original.file)
    for flip, original_file in zip(_flips(data), _flip_files(report), strict=True):
        flip["file"] = file_name(original_file)
    return from_mapping(Report, data, "report")


def traces(report: Report) -> tuple[str, ...]:
    """What of a report should not be published, one phrase each; empty where nothing was found."""
    found: list[str] = []
    for text in _texts(to_mapping(report)):
        for what, pattern in (
            ("an address", _ADDRESS),
            ("an absolute path", _ABSOLUTE),
            ("an absolute path", _WINDOWS),
            ("an embedded picture", _PICTURE),
        ):
            match = pattern.search(text)
            if match:
                found.append(f"{what} ({match.group()[:80]})")
        if len(text) > _LONGEST:
            found.append(f"a text of {len(text)} characters")
    named = [("bundle", report.bundle), ("keras_run", report.keras_run or ""), ("source", report.data.source)]
    named += [("picture", item.file) for item in report.data.unreadable]
    named += [("picture", file) for file in _flip_files(report)]
    found += [f"a path ({field}: {value[:80]})" for field, value in named if "/" in value]
    return tuple(dict.fromkeys(found))


def file_name(text: str) -> str:
    """The last part of a path or address."""
    path = urlsplit(text).path if _ADDRESS.match(text) else text
    return PurePosixPath(path).name or "unnamed"


def _replacements(report: Report) -> list[tuple[str, str]]:
    """Texts that the report is known to hold and what to write instead, longest first.

    They may hold blanks, which no pattern can tell from prose.
    """
    paths = [report.bundle, report.keras_run or "", report.data.source, *_flip_files(report)]
    paths += [item.file for item in report.data.unreadable]
    found = {path: file_name(path) for path in paths if "/" in path}
    for path in paths:
        folders = [str(parent) for parent in PurePosixPath(path).parents]
        found |= {f"{folder}/": "" for folder in folders if folder.startswith(("/", "~")) and folder not in ("/", "~")}
    return sorted(found.items(), key=lambda item: len(item[0]), reverse=True)


def _clean(text: str, replacements: Iterable[tuple[str, str]]) -> str:
    for old, new in replacements:
        text = text.replace(old, new)
    for pattern in (_ADDRESS, _ABSOLUTE):
        text = pattern.sub(lambda match: file_name(match.group()), text)
    return _WINDOWS.sub(lambda match: match.group().rpartition("\\")[2] or "unnamed", text)


def _bare_command(command: str) -> str:
    """The command line with names for paths; only its beginning where it cannot be read."""
    try:
        words = shlex.split(command)
    except ValueError:
        return "edge-bench run"
    return shlex.join(_bare_word(word) for word in words)


def _bare_word(word: str) -> str:
    option, separator, value = word.partition("=") if word.startswith("--") else ("", "", word)
    bare = file_name(value) if "/" in value else _WINDOWS.sub("unnamed", value)
    return f"{option}{separator}{bare}"


def _walk(value: Any, change: Any) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_walk(item, change) for item in value]
    if isinstance(value, Mapping):
        return {key: _walk(item, change) for key, item in value.items()}
    return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)


def _flip_files(report: Report) -> list[str]:
    performances = [subject.performance for subject in report.subjects if subject.performance is not None]
    return [flip.file for item in performances if item.against_keras for flip in item.against_keras.flips]


def _flips(data: Any) -> list[dict[str, Any]]:
    performances = [subject["performance"] for subject in data["subjects"] if subject["performance"] is not None]
    return [flip for item in performances if item["against_keras"] for flip in item["against_keras"]["flips"]]
