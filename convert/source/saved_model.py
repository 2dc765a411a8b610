"""Inspect a SavedModel folder as untrusted data: protocol buffers, signature, operators.

A SavedModel is a program. TensorFlow runs its functions when the model is loaded (those that set up resources) and
when it is called; both kinds are listed in the object graph. The functions that save and restore variables belong to
the main graph, which TensorFlow 2 does not run: it reads the variables itself. Every operator of the file must be on
the list of `convert.source.operators`. Field numbers are those of TensorFlow's saved_model.proto, meta_graph.proto,
graph.proto, function.proto and saved_object_graph.proto.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from convert.options import UNSAFE_MEANS, Loader, ModelFacts
from convert.source.operators import CALCULATING, SAVING
from edge_runtime.errors import ModelError, shorten
from edge_runtime.model.protobuf import Message, WireError, integer, messages, text
from edge_runtime.strict import open_regular

GRAPH_FILE = "saved_model.pb"
MAX_GRAPH_BYTES = 2**31 - 1
"""Maximum size of a protocol buffer."""

_DEFAULT_SIGNATURE = "serving_default"
_FLOAT32, _UINT8, _FLOAT16 = 1, 4, 19
# A function may be called by its own name, which must not be that of an operator.
_FUNCTION_NAME = re.compile(r"[a-z].*|__.*", re.DOTALL)
# TensorFlow's optimizer may call any function that says so in the place of another.
_STANDS_IN = "api_implements"


@dataclass(frozen=True)
class _Function:
    operators: frozenset[str]
    calls: frozenset[str]


def choose_signature(names: Iterable[str]) -> str | None:
    """Choose the signature to convert: ``serving_default``, or the only one; None if that is ambiguous."""
    public = [name for name in names if not name.startswith("__")]
    if _DEFAULT_SIGNATURE in public:
        return _DEFAULT_SIGNATURE
    return public[0] if len(public) == 1 else None


def inspect_saved_model(folder: Path, *, unsafe: bool) -> ModelFacts:
    """Inspect a SavedModel folder; ``unsafe`` accepts all operators and TensorFlow 1 graphs.

    Raises:
        ModelError: Not a complete SavedModel, one with operators that are not listed, or not a classifier with
            one input.
    """
    path = folder / GRAPH_FILE
    try:
        with open_regular(path) as file:
            data = file.read(MAX_GRAPH_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > MAX_GRAPH_BYTES:
        raise ModelError(f"{path}: expected at most 2 GiB, got more")
    try:
        graphs = list(messages(memoryview(data), 2))
        if not graphs:
            raise ModelError(
                f"{path}: expected a SavedModel, got a file without a graph; it is damaged or another kind"
            )
        if not unsafe:
            _refuse_code(graphs, path)
        return _read_signature(graphs[0], path)
    except (WireError, RecursionError) as error:
        raise ModelError(f"{path}: is not a whole SavedModel ({error}); get or export it again") from error


def _read_signature(graph: Message, path: Path) -> ModelFacts:
    signatures = dict(_entries(graph, 5))
    name = choose_signature(signatures)
    if name is None:
        found = ", ".join(shorten(repr(key), 40) for key in sorted(signatures)[:5]) or "none"
        raise ModelError(
            f"{path}: expected a signature {_DEFAULT_SIGNATURE!r}, got {found}; export it with model.export"
        )
    inputs, outputs = dict(_entries(signatures[name], 1)), dict(_entries(signatures[name], 2))
    for what, found_tensors in (("input", inputs), ("output", outputs)):
        if len(found_tensors) != 1:
            raise ModelError(f"{path}: expected a classifier with one {what}, got {len(found_tensors)} {what}s")
    (image,), (answer,) = inputs.values(), outputs.values()
    if integer(image, 2) not in (_FLOAT32, _UINT8, _FLOAT16):
        raise ModelError(
            f"{path}: expected an input of float32 or uint8 pixels, got TensorFlow's type number {integer(image, 2)}; "
            "export a signature that takes pixels"
        )
    output_shape = _shape(answer)
    version = next((text(info, 5) for info in messages(graph, 1)), "") or "of unknown version"
    return ModelFacts(
        shown=f"SavedModel of TensorFlow {shorten(version, 40)}",
        loader=Loader.SAVED_MODEL,
        input_shape=_shape(image),
        output_width=output_shape[1] if output_shape and len(output_shape) == 2 else None,
        own_scaling=None,
    )


def _refuse_code(graphs: list[Message], path: Path) -> None:
    is_tf2 = any(True for _ in messages(graphs[0], 7))
    if is_tf2:
        for graph in graphs:
            _refuse_unlisted(graph, path)
    # TensorFlow loads a file with several graphs as one of TensorFlow 1 too.
    if not is_tf2 or len(graphs) > 1:
        raise ModelError(
            f"{path}: is a SavedModel of TensorFlow 1, whose whole graph runs when it is loaded; export it with "
            f"TensorFlow 2, or pass --unsafe, {UNSAFE_MEANS}"
        )


def _refuse_unlisted(graph: Message, path: Path) -> None:
    functions: dict[str, list[_Function]] = {}
    roots = {key for objects in messages(graph, 7) for key, _ in _entries(objects, 2)}
    for definition in messages(graph, 2, 2, 1):
        # The last name counts, as in TensorFlow.
        name = next(reversed([text(signature, 1) for signature in messages(definition, 1)]), "")
        functions.setdefault(name, []).append(_read_nodes(messages(definition, 3)))
        if any(text(attribute, 1) == _STANDS_IN for attribute in messages(definition, 5)):
            roots.add(name)
    waiting, reached = list(roots), set()
    while waiting:
        name = waiting.pop()
        if name in functions and name not in reached:
            reached.add(name)
            waiting.extend(call for function in functions[name] for call in function.calls)
    callable_names = {name for name in functions if _FUNCTION_NAME.fullmatch(name)}
    bad: set[str] = set(_read_nodes(messages(graph, 2, 1)).operators - SAVING)
    for name, versions in functions.items():
        for function in versions:
            bad |= function.operators - (frozenset() if name in reached else SAVING)
    if bad := bad - CALCULATING - callable_names:
        shown = ", ".join(shorten(op, 40) for op in sorted(bad)[:5])
        raise ModelError(
            f"{path}: its graph contains {shown}, which is not on the list of operators that only calculate, and an "
            f"image classifier needs no other; export it without, or pass --unsafe, {UNSAFE_MEANS}"
        )


def _read_nodes(nodes: Iterable[Message]) -> _Function:
    operators, calls = set(), set()
    for node in nodes:
        operator = text(node, 2)
        operators.add(operator)
        calls.add(operator)
        # An attribute in several parts is one attribute to TensorFlow.
        for value in messages(node, 5, 2):
            calls.update(text(function, 1) for function in messages(value, 10))
            calls.update(text(function, 1) for function in messages(value, 1, 9))
    return _Function(frozenset(operators), frozenset(calls))


def _entries(message: Message, number: int) -> list[tuple[str, Message]]:
    """Read a map field of texts to messages; an entry without a value has an empty message."""
    return [(text(entry, 1), next(messages(entry, 2), memoryview(b""))) for entry in messages(message, number)]


def _shape(tensor: Message) -> tuple[int | None, ...] | None:
    """Shape of a TensorInfo, None for an open size or an unknown rank."""
    for shape in messages(tensor, 3):
        if integer(shape, 3):
            return None
        sizes = [integer(size, 1) for size in messages(shape, 2)]
        return tuple(None if size < 0 else size for size in sizes)
    return None
