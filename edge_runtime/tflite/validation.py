"""Validate the structure of a TFLite model before a native runtime follows its pointers.

Every table, list, text and buffer that a runtime reads lies inside the file, every index of a tensor, buffer, operator
code or graph is in range, sizes fit together, every tensor is written before it is read, and a small file cannot
allocate a large memory. The meaning of the operators is not checked; `edge_runtime.model.sandbox` runs them.

Field numbers are positions in the tables of ``schema.fbs``.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from edge_runtime.contract import TensorSpec
from edge_runtime.errors import IntegrityError, ModelError
from edge_runtime.tflite.flatbuffer import Bytes, DamageError, Reader, Span, Table
from edge_runtime.tflite.schema import (
    BUILTIN_OPTIONS,
    BUILTIN_OPTIONS_2,
    CUSTOM,
    EDGETPU_OPERATOR,
    OPERATOR_NAMES,
    TENSOR_TYPES,
)

MAX_MODEL_BYTES = 1 << 30
MAX_TENSOR_BYTES = 256 << 20
_IDENTIFIER = b"TFL3"
_VERSION = 3
_MAX_MEMORY_BYTES = 4 << 30  # all tensors of a model; a runtime reuses memory between them
_MAX_METADATA_BYTES = 1 << 20
_MAX_METADATA = 32
_UNNAMED = "a custom operator without a name"
_MAX_SIDES = 8  # runtimes compute with at most 6, or 8
_UNKNOWN_TYPE = ("", 8)
# Fields of the tables of the union QuantizationDetails, and of SparseIndexVector, as in schema.BUILTIN_OPTIONS.
_QUANTIZATION_DETAILS = (".", "B", "444", "44II")
_SPARSE_INDICES = (".", "I", "H", "B")
_OPTION_BYTES = {"1": 1, "2": 2, "4": 4, "8": 8}
_LIST_BYTES = {"B": 1, "H": 2, "I": 4, "Q": 8}


class OperatorCode(NamedTuple):
    """Operator and version, as a model declares it; ``name`` is that of the schema, or a custom operator's own."""

    name: str
    version: int
    is_custom: bool


class Structure(NamedTuple):
    """Result of the check of a model.

    Attributes:
        codes: Kinds of all operators of all graphs, in the order of the file.
        inputs: Inputs of the main graph; ``shape`` has 1 for an open batch.
        outputs: Outputs of the main graph.
        metadata: Metadata buffers of up to 1 MiB, by name.
    """

    codes: tuple[OperatorCode, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    metadata: Mapping[str, bytes]

    @property
    def is_for_edgetpu(self) -> bool:
        """True for a model compiled for the Edge TPU."""
        return any(code.name == EDGETPU_OPERATOR for code in self.codes)


def read_structure(path: Path) -> Structure:
    """Check a ``.tflite`` file.

    Raises:
        ModelError: The file cannot be read, or is larger than 1 GiB.
        IntegrityError: It is not a TFLite model, or a damaged one.
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
    """Map a file, which need not fit into the memory."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_MODEL_BYTES:
            raise ModelError(f"{path}: expected at most {MAX_MODEL_BYTES >> 20} MiB, got {size >> 20} MiB")
        if not size:
            yield b""  # an empty file cannot be mapped
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            yield mapped


def check_structure(data: Bytes) -> Structure:
    """Check the bytes of a ``.tflite`` file; raise DamageError if it is not a TFLite model, or a damaged one."""
    reader = Reader(data, _IDENTIFIER)
    model = reader.root()
    if model.scalar(0, "I") != _VERSION:
        raise DamageError(f"its version is {model.scalar(0, 'I')}, expected {_VERSION}")
    if model.vector(8, 4)[1] or model.vector(9, 4)[1]:
        raise DamageError("it keeps data in other files, which is not supported")
    model.text(3)
    model.vector(5, 4)
    # Each vector is checked, also where its data lie elsewhere.
    inline = [(table, table.vector(0, 1)) for table in model.tables(4)]
    buffers = [_check_stretch(table, 1, "a buffer") or span for table, span in inline]
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
    def __init__(self, table: Table, buffers: list[Span], codes: list[OperatorCode]) -> None:
        self._reader = table.reader
        self.tensors = [_read_tensor(tensor, buffers) for tensor in table.tables(0)]
        self.inputs, self.outputs = self._indices(table, 1), self._indices(table, 2)
        table.text(4)
        self.codes: list[int] = []
        constants = [tensor.is_constant for tensor in self.tensors]
        if any(constants[index] for index in self.inputs):
            raise DamageError("an input of a graph is a constant")
        # A tensor that nothing wrote is a null pointer for a kernel.
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
        text, tensors = self._reader.text, [self.tensors[index] for index in indices]
        return tuple(TensorSpec(text(t.name), t.dtype or "unknown", t.shape, t.scale, t.zero_point) for t in tensors)

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
                _check_options(options, layouts[kind])
        table.vector(5, 1)
        table.vector(7, 1)
        _check_stretch(table, 9, "custom options")
        self.codes.append(code)

    def _indices(self, table: Table, field: int, *, optional: bool = False) -> tuple[int, ...]:
        """Tensor indices of a list; -1 is an absent optional tensor."""
        indices = self._reader.numbers(table.vector(field, 4), "i")
        least = -1 if optional else 0
        if indices and not (min(indices) >= least and max(indices) < len(self.tensors)):
            wrong = next(index for index in indices if not least <= index < len(self.tensors))
            raise DamageError(f"it names tensor {wrong} of {len(self.tensors)}")
        return indices


def _check_stretch(table: Table, field: int, what: str) -> Span | None:
    """Span of data that a writer put after the FlatBuffer; None for offsets 0 and 1, which mean that it did not."""
    start, size = table.scalar(field, "Q"), table.scalar(field + 1, "Q")
    if start <= 1:
        return None
    if start + size > table.reader.size:
        raise DamageError(f"{what} has {size} bytes from byte {start} of {table.reader.size}")
    return start, size


def _operator_code(table: Table) -> OperatorCode:
    # Codes below 127 may be in the old field only.
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


class _Tensor(NamedTuple):
    name: Span
    shape: tuple[int, ...]  # 1 for an open batch
    dtype: str  # lower-case name of the schema's type, mostly numpy's too; "" for an unknown type
    bytes: int  # in memory
    is_constant: bool  # the file holds its values
    is_variable: bool  # it keeps its values from one run to the next
    scale: float  # of a per-tensor quantization; 0 without one, or with several scales
    zero_point: int


def _read_tensor(table: Table, buffers: list[Span]) -> _Tensor:
    """Check one tensor and everything that it points to; the span of a buffer without data is (0, 0)."""
    shape = _shape(table)
    number = table.scalar(1, "b")
    dtype, bits = TENSOR_TYPES[number] if 0 <= number < len(TENSOR_TYPES) else _UNKNOWN_TYPE
    size = _bytes(shape, bits or 8)
    buffer = table.scalar(2, "I")
    # Buffer 0 means no data, even if no buffer is listed.
    if buffer >= max(1, len(buffers)):
        raise DamageError(f"a tensor names buffer {buffer} of {len(buffers)}")
    held = buffers[buffer][1] if buffer else 0
    sparsity = table.table(6)
    if held and dtype and bits and not sparsity and held != size:
        raise DamageError(f"a constant {dtype} tensor of shape {list(shape)} needs {size} bytes and has {held}")
    if sparsity:
        _check_sparsity(sparsity)
    for variant in table.tables(9):
        variant.vector(0, 4)
        variant.scalar(1, "b")
    table.vector(7, 4)
    if table.scalar(10, "I"):
        raise DamageError("a tensor keeps its data in another file, which is not supported")
    quantization = table.table(4)
    scale, zero_point = _read_quantization(quantization, shape) if quantization else (0.0, 0)
    return _Tensor(table.text(3), shape, dtype, size, held > 0, table.scalar(5, "b") != 0, scale, zero_point)


def _check_options(table: Table, layout: str) -> None:
    """Check the fields of a table by a layout of `edge_runtime.tflite.schema`."""
    for field, kind in enumerate(layout):
        if kind in _OPTION_BYTES:
            table.find(field, _OPTION_BYTES[kind])
        elif kind in _LIST_BYTES:
            table.vector(field, _LIST_BYTES[kind])
        elif kind == "s":
            table.text(field)


def _shape(table: Table) -> tuple[int, ...]:
    span = table.vector(0, 4)
    if span[1] > _MAX_SIDES:
        raise DamageError(f"a tensor has {span[1]} sides")
    shape = table.reader.numbers(span, "i")
    if shape and min(shape) < 0:
        raise DamageError(f"a tensor has the shape {list(shape)}")
    return shape


def _bytes(shape: tuple[int, ...], bits: int) -> int:
    size = bits
    for side in shape:
        size *= side
    size = (size + 7) // 8
    if size > MAX_TENSOR_BYTES:
        raise DamageError(f"a tensor of shape {list(shape)} would take {size >> 20} MiB")
    return size


def _read_quantization(table: Table, shape: tuple[int, ...]) -> tuple[float, int]:
    reader = table.reader
    table.vector(0, 4)
    table.vector(1, 4)
    scales, zero_points = table.vector(2, 4), table.vector(3, 8)
    details_type, details = table.scalar(4, "B"), table.table(5)
    if details and details_type < len(_QUANTIZATION_DETAILS):
        _check_options(details, _QUANTIZATION_DETAILS[details_type])
    if scales[1] > 1 or zero_points[1] > 1:
        dimension = table.scalar(6, "i")
        if not 0 <= dimension < len(shape):
            raise DamageError(f"a tensor of shape {list(shape)} is quantized along its side {dimension}")
        if scales[1] != shape[dimension] or zero_points[1] not in (0, 1, scales[1]):
            raise DamageError(
                f"a tensor has {scales[1]} scales and {zero_points[1]} zero points for {shape[dimension]} channels"
            )
    if not scales[1]:
        return 0.0, 0
    _check_scales(reader, scales)
    if scales[1] > 1:
        return 0.0, 0
    scale: float = struct.unpack_from("<f", reader.data, scales[0])[0]
    return scale, reader.numbers((zero_points[0], 1), "q")[0] if zero_points[1] else 0


def _check_scales(reader: Reader, span: Span) -> None:
    """Refuse scales that make kernels abort, in vectorized calls, because weights may have thousands of scales."""
    reader.spend(span[1] >> 4)
    scales = struct.unpack_from(f"<{span[1]}f", reader.data, span[0])
    # The sum is NaN or infinite if one of them is.
    if not (min(scales) >= 0 and sum(scales) < float("inf")):
        raise DamageError("a tensor has a scale that is negative or no number")


def _check_sparsity(table: Table) -> None:
    table.vector(0, 4)
    table.vector(1, 4)
    for dimension in table.tables(2):
        dimension.find(0, 1)
        dimension.find(1, 4)
        for kind_field in (2, 4):
            kind, indices = dimension.scalar(kind_field, "B"), dimension.table(kind_field + 1)
            if indices and kind < len(_SPARSE_INDICES):
                _check_options(indices, _SPARSE_INDICES[kind])
