"""JSON Schema of ``report.json``, generated from the records and published as ``schema.json`` beside this file.

To update it: ``python -m benchmarks.report.schema > schema.json``, then move it here.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import re
import sys
import types
import typing
from typing import Annotated, Any

from benchmarks.records import REPORT_SCHEMA_VERSION, Report

SCHEMA_FILE = "schema.json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SCALARS = {str: "string", bool: "boolean", int: "integer", float: "number"}
_MARKUP = re.compile(r"``?([^`]*)``?")


def report_schema() -> dict[str, Any]:
    """Make the schema of `benchmarks.records.Report`, with dialect and title."""
    schema = json_schema(Report)
    schema["$defs"][Report.__name__]["properties"]["schema_version"]["const"] = REPORT_SCHEMA_VERSION
    return {"$schema": DIALECT, "title": "edgekit benchmark report (report.json)", **schema}


def json_schema(cls: type) -> dict[str, Any]:
    """Make the JSON Schema (2020-12) of a tree of dataclasses as `edge_runtime.strict` reads it.

    All fields are required and no others allowed. Descriptions are the docstrings of the classes and the texts in the
    fields' ``Annotated``. Raises TypeError for a type that `edge_runtime.strict` does not read.
    """
    definitions: dict[str, Any] = {}
    return {**_of_class(cls, definitions), "$defs": dict(sorted(definitions.items()))}


def _of_class(cls: type, definitions: dict[str, Any]) -> dict[str, Any]:
    if cls.__name__ not in definitions:
        definitions[cls.__name__] = {}  # reserved before the fields are read, so that a class may contain itself
        hints = typing.get_type_hints(cls, include_extras=True)
        fields = [field.name for field in dataclasses.fields(typing.cast(Any, cls))]
        definitions[cls.__name__] = {
            "type": "object",
            "description": _plain(inspect.getdoc(cls) or ""),
            "properties": {name: _of_hint(hints[name], definitions) for name in fields},
            "required": fields,
            "additionalProperties": False,
        }
    return {"$ref": f"#/$defs/{cls.__name__}"}


def _of_hint(hint: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return {**_of_hint(arguments[0], definitions), "description": _plain(arguments[1])}
    if origin in (typing.Union, types.UnionType):
        schema = _of_hint(next(argument for argument in arguments if argument is not type(None)), definitions)
        if isinstance(schema.get("type"), str) and "enum" not in schema:
            return {**schema, "type": [schema["type"], "null"]}
        return {"anyOf": [schema, {"type": "null"}]}
    if origin is tuple:
        return {"type": "array", "items": _of_hint(arguments[0], definitions)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of_hint(arguments[1], definitions)}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _of_class(hint, definitions)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return {"type": "string", "enum": [member.value for member in hint]}
    if hint in _SCALARS:
        return {"type": _SCALARS[hint]}
    raise TypeError(f"expected a type that edge_runtime.strict reads, got {hint}")


def _plain(text: str) -> str:
    return re.sub(r"\bNone\b", "null", _MARKUP.sub(r"\1", " ".join(text.split())))


def to_text() -> str:
    """Write the schema as the text of ``schema.json``."""
    return json.dumps(report_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(to_text())
