"""Structural check of the tensors of a TFLite model: shapes, constants, quantization, sparsity."""

from __future__ import annotations

import struct
from typing import NamedTuple

from edge_runtime.vetting.flatbuffer import DamageError, Reader, Span, Table
from edge_runtime.vetting.schema import TENSOR_TYPES

MAX_TENSOR_BYTES = 256 << 20
_MAX_SIDES = 8  # runtimes compute with at most 6, or 8
_UNKNOWN_TYPE = ("", 8)
# Fields of the tables of the union QuantizationDetails, and of SparseIndexVector, as in schema.BUILTIN_OPTIONS.
_QUANTIZATION_DETAILS = (".", "B", "444", "44II")
_SPARSE_INDICES = (".", "I", "H", "B")
_OPTION_BYTES = {"1": 1, "2": 2, "4": 4, "8": 8}
_LIST_BYTES = {"B": 1, "H": 2, "I": 4, "Q": 8}


class Tensor(NamedTuple):
    """One tensor.

    Attributes:
        name: First byte and length of its name in the file.
        shape: Its sides; 1 for an open batch.
        dtype: Lower-case name of the schema's type, mostly numpy's too; "" for one that is not known here.
        bytes: Memory that it takes.
        is_constant: Whether the file holds its values.
        is_variable: Whether it keeps its values from one run to the next.
        scale: The only scale of its quantization; 0 where it has none, or several.
        zero_point: The only zero point.
    """

    name: Span
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    is_constant: bool
    is_variable: bool
    scale: float
    zero_point: int


def read_tensor(table: Table, buffers: list[Span]) -> Tensor:
    """Check one tensor and everything that it points to.

    Args:
        table: The tensor.
        buffers: First byte and length of every buffer; (0, 0) for one without data.

    Raises:
        DamageError: Something points outside the file, or does not fit together.
    """
    shape = _shape(table)
    number = table.scalar(1, "b")
    dtype, bits = TENSOR_TYPES[number] if 0 <= number < len(TENSOR_TYPES) else _UNKNOWN_TYPE
    size = _bytes(shape, bits or 8)
    buffer = table.scalar(2, "I")
    # Buffer 0 means no data, also where no buffer is listed.
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
    return Tensor(table.text(3), shape, dtype, size, held > 0, table.scalar(5, "b") != 0, scale, zero_point)


def check_options(table: Table, layout: str) -> None:
    """Check the fields of a table by a layout of `edge_runtime.vetting.schema`."""
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
        check_options(details, _QUANTIZATION_DETAILS[details_type])
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
    """Refuse what kernels abort on. Many weights have thousands of scales, so that each costs only C speed."""
    reader.spend(span[1] >> 4)
    scales = struct.unpack_from(f"<{span[1]}f", reader.data, span[0])
    # The sum is no number, or infinite, as soon as one of them is.
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
                check_options(indices, _SPARSE_INDICES[kind])
