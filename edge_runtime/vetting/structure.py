"""Structural check of a TFLite model, before a native runtime follows its pointers.

Every table, list, text and buffer that a runtime reads lies inside the file, every number that names a tensor, buffer,
operator code or graph names one that exists, sizes fit together, every tensor is written before it is read, and
nothing makes a small file into a large memory. What is left is the operators' own sense, which `trial` tries out.

Numbers of fields are positions in the tables of ``schema.fbs``.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from edge_runtime.contract import TensorSpec
from edge_runtime.errors import IntegrityError, ModelError
from edge_runtime.vetting.flatbuffer import Bytes, DamageError, Reader, Span, Table
from edge_runtime.vetting.schema import BUILTIN_OPTIONS, BUILTIN_OPTIONS_2, CUSTOM, EDGETPU_OPERATOR, OPERATOR_NAMES
from edge_runtime.vetting.tensors import Tensor, check_options, read_tensor

MAX_MODEL_BYTES = 1 << 30
_IDENTIFIER = b"TFL3"
_VERSION = 3
_MAX_MEMORY_BYTES = 4 << 30  # all tensors of a model; a runtime lays those that do not live together onto one another
_MAX_METADATA_BYTES = 1 << 20
_MAX_METADATA = 32
_UNNAMED = "a custom operator without a name"


class OperatorCode(NamedTuple):
    """A kind of operator.

    Attributes:
        name: Name in the schema, or for a custom operator its own name.
        version: Version of the built-in operator.
        is_custom: Whether it is not built in.
    """

    name: str
    version: int
    is_custom: bool


class Structure(NamedTuple):
    """What the check has seen of a model.

    Attributes:
        codes: The kind of every operator, through all graphs, in the file's order.
        inputs: Of the main graph; ``shape`` has 1 for an open batch.
        outputs: Of the main graph.
        metadata: The metadata buffers of up to 1 MiB, by name.
    """

    codes: tuple[OperatorCode, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: Mapping[str, bytes]

    @property
    def is_for_edgetpu(self) -> bool:
        """Whether it was compiled for the Edge TPU."""
        return any(code.name == EDGETPU_OPERATOR for code in self.codes)


def read_structure(path: Path) -> Structure:
    """Check a ``.tflite`` file; see the module.

    Raises:
        ModelError: The file cannot be read, or is larger than 1 GiB.
        IntegrityError: It is no TFLite model, or a damaged one.
    """
    try:
        with _mapped(path) as mapped, memoryview(mapped) as data:
            return check_structure(data)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); expected a .tflite file") from error
    except DamageError as error:
        raise IntegrityError(f"{path}: is not a whole TFLite model ({error}); copy or export it again") from error


@contextlib.contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap | bytes]:
    """The bytes of a file, which need not fit into the memory."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_MODEL_BYTES:
            raise ModelError(f"{path}: expected at most {MAX_MODEL_BYTES >> 20} MiB, got {size >> 20} MiB")
        if not size:
            yield b""  # which cannot be mapped
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped


def check_structure(data: Bytes) -> Structure:
    """Check the bytes of a ``.tflite`` file; see the module.

    Raises:
        DamageError: It is no TFLite model, or a damaged one.
    """
    reader = Reader(data, _IDENTIFIER)
    model = reader.root()
    if model.scalar(0, "I") != _VERSION:
        raise DamageError(f"its version is {model.scalar(0, 'I')}, expected {_VERSION}")
    if model.vector(8, 4)[1] or model.vector(9, 4)[1]:
        raise DamageError("it keeps data in other files, which is not supported")
    model.text(3)
    model.vector(5, 4)
    buffers = [_buffer(table) for table in model.tables(4)]
    codes = [_operator_code(table) for table in model.tables(1)]
    metadata = dict(_metadata(model, buffers))
    graphs = [_Graph(table, buffers, codes) for table in model.tables(2)]
    if not graphs:
        raise DamageError("it holds no graph")
    if sum(tensor.bytes for graph in graphs for tensor in graph.tensors) > _MAX_MEMORY_BYTES:
        raise DamageError(f"its tensors would take more than {_MAX_MEMORY_BYTES >> 30} GiB")
    _check_signatures(model, graphs)
    used = tuple(codes[index] for graph in graphs for index in graph.codes)
    main = graphs[0]
    return Structure(used, main.specs(main.inputs), main.specs(main.outputs), metadata)


class _Graph:
    """One checked graph."""

    def __init__(self, table: Table, buffers: list[Span], codes: list[OperatorCode]) -> None:
        self._reader = table.reader
        self.tensors = [read_tensor(tensor, buffers) for tensor in table.tables(0)]
        self.inputs, self.outputs = self._indices(table, 1), self._indices(table, 2)
        table.text(4)
        self.codes: list[int] = []
        constants = [tensor.is_constant for tensor in self.tensors]
        if any(constants[index] for index in self.inputs):
            raise DamageError("an input of a graph is a constant")
        # Kernels read a tensor that nothing wrote as a null pointer.
        written = [
            constant or tensor.is_variable or not tensor.bytes
            for constant, tensor in zip(constants, self.tensors, strict=True)
        ]
        for index in self.inputs:
            written[index] = True
        for operator in table.tables(3):
            self._check_operator(operator, len(codes), written, constants)
        if not all(written[index] for index in self.outputs):
            raise DamageError("no operator writes an output of a graph")

    def specs(self, indices: tuple[int, ...]) -> tuple[TensorSpec, ...]:
        """Summaries of tensors."""
        return tuple(self._spec(self.tensors[index]) for index in indices)

    def _spec(self, tensor: Tensor) -> TensorSpec:
        return TensorSpec(
            self._reader.text(tensor.name), tensor.dtype or "unknown", tensor.shape, tensor.scale, tensor.zero_point
        )

    def _check_operator(self, table: Table, codes: int, written: list[bool], constants: list[bool]) -> None:
        code = table.scalar(0, "I")
        if code >= codes:
            raise DamageError(f"an operator names operator code {code} of {codes}")
        for index in self._indices(table, 1, optional=True):
            if index >= 0 and not written[index]:
                raise DamageError(f"operator {len(self.codes)} reads tensor {index}, which nothing has written")
        for index in self._indices(table, 2):
            if constants[index]:
                raise DamageError(f"operator {len(self.codes)} writes tensor {index}, which is a constant")
            written[index] = True
        self._indices(table, 8, optional=True)
        for kind_field, layouts in ((3, BUILTIN_OPTIONS), (11, BUILTIN_OPTIONS_2)):
            kind, options = table.scalar(kind_field, "B"), table.table(kind_field + 1)
            if options and kind < len(layouts):
                check_options(options, layouts[kind])
        table.vector(5, 1)
        table.vector(7, 1)
        _check_stretch(table, 9, "custom options")
        self.codes.append(code)

    def _indices(self, table: Table, field: int, *, optional: bool = False) -> tuple[int, ...]:
        """Tensor numbers of a list; -1 is an optional tensor that is not given."""
        indices = self._reader.numbers(table.vector(field, 4), "i")
        least = -1 if optional else 0
        if indices and not (min(indices) >= least and max(indices) < len(self.tensors)):
            wrong = next(index for index in indices if not least <= index < len(self.tensors))
            raise DamageError(f"it names tensor {wrong} of {len(self.tensors)}")
        return indices


def _buffer(table: Table) -> Span:
    span = table.vector(0, 1)
    return _check_stretch(table, 1, "a buffer") or span


def _check_stretch(table: Table, field: int, what: str) -> Span | None:
    """Check data that a writer laid after the FlatBuffer; offsets of 0 and 1 mean that it did not."""
    start, size = table.scalar(field, "Q"), table.scalar(field + 1, "Q")
    if start <= 1:
        return None
    if start + size > table.reader.size:
        raise DamageError(f"{what} is said to have {size} bytes from byte {start} of {table.reader.size}")
    return start, size


def _operator_code(table: Table) -> OperatorCode:
    # Codes under 127 may stand in the old field only.
    number = max(table.scalar(0, "b"), table.scalar(3, "i"))
    custom, version = table.text(1), table.scalar(2, "i", 1)
    name = OPERATOR_NAMES[number] if number < len(OPERATOR_NAMES) else f"BUILTIN_{number}"
    if number < 0:
        raise DamageError(f"an operator has the code {number}")
    if name == CUSTOM:
        return OperatorCode(table.reader.text(custom) or _UNNAMED, version, is_custom=True)
    return OperatorCode(name, version, is_custom=False)


def _metadata(model: Table, buffers: list[Span]) -> Iterator[tuple[str, bytes]]:
    reader = model.reader
    for count, entry in enumerate(model.tables(6)):
        name, buffer = entry.text(0), entry.scalar(1, "I")
        if buffer >= len(buffers):
            raise DamageError(f"its metadata names buffer {buffer} of {len(buffers)}")
        start, size = buffers[buffer]
        if count < _MAX_METADATA and size <= _MAX_METADATA_BYTES:
            yield reader.text(name), bytes(reader.data[start : start + size])


def _check_signatures(model: Table, graphs: list[_Graph]) -> None:
    for signature in model.tables(7):
        graph = signature.scalar(4, "I")
        if graph >= len(graphs):
            raise DamageError(f"a signature names graph {graph} of {len(graphs)}")
        signature.text(2)
        for field in (0, 1):
            for entry in signature.tables(field):
                entry.text(0)
                if entry.scalar(1, "I") >= len(graphs[graph].tensors):
                    raise DamageError("a signature names a tensor that is not there")
