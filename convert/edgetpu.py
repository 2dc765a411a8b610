"""Run the Edge TPU compiler on an int8 model and check its log.

The compiler drops metadata and the zip after the FlatBuffer: embed them afterwards.
"""

from __future__ import annotations

import functools
import os
import platform
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from convert.lint.edgetpu import is_compiled
from convert.tflite_model import read_model, read_operators
from edge_runtime.errors import EngineError, GateError, UsageError
from edge_runtime.platform.childproc import die_with_parent

PROGRAM = "edgetpu_compiler"
MAPPED = "Mapped to Edge TPU"
_ANOTHER_SUBGRAPH = "More than one subgraph is not supported"
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_VERSION = re.compile(r"^Edge TPU Compiler version (\S+)", re.MULTILINE)
_ROW = re.compile(r"^(\S+) +(\d+) +(\S.*?)\s*$", re.MULTILINE)
_TABLE = re.compile(r"^Operator +Count +Status\s*$", re.MULTILINE)
_ERROR = re.compile(r"^.*(?:error|invalid|not quantized|failed|aborting).*$", re.IGNORECASE | re.MULTILINE)
_LOG_CHARACTERS = 1 << 20
_SHOWN = 3


@dataclass(frozen=True)
class OperatorStatus:
    """Row of the compiler's table: name of the operators, their number, and their status in its words."""

    operator: str
    count: int
    status: str

    @property
    def is_mapped(self) -> bool:
        """True if these operators run on the Edge TPU."""
        return self.status == MAPPED


@dataclass(frozen=True)
class CompilerLog:
    """Contents of the compiler's log.

    Attributes:
        version: Version of the compiler, such as ``16.0.384591198``.
        statuses: Rows of the table of operators.
        on_chip_bytes: Weights kept in the memory on the chip, in bytes.
        on_chip_left_bytes: Free memory on the chip, in bytes.
        streamed_bytes: Weights sent from the host with every image, in bytes.
    """

    version: str
    statuses: tuple[OperatorStatus, ...]
    on_chip_bytes: int
    on_chip_left_bytes: int
    streamed_bytes: int

    @property
    def mapped(self) -> int:
        """Number of operators on the Edge TPU."""
        return sum(status.count for status in self.statuses if status.is_mapped)

    @property
    def total(self) -> int:
        """Number of all operators."""
        return sum(status.count for status in self.statuses)

    @property
    def share(self) -> float:
        """Share of the operators that run on the Edge TPU, 0..1."""
        return self.mapped / self.total if self.total else 0.0


def find_compiler() -> Path:
    """Find the compiler on PATH.

    Raises:
        EngineError: The compiler is not on PATH; the message names the package to install.
    """
    found = shutil.which(PROGRAM)
    if found is None:
        machine = platform.machine()
        where = "" if machine == "x86_64" else f", not on this machine ({machine})"
        raise EngineError(
            f"{PROGRAM} is not on PATH: install the Debian package edgetpu-compiler as coral.ai/docs/edgetpu/compiler "
            f"says, which runs on 64-bit x86 Linux only{where}; the file that it writes runs on any board with a Coral"
        )
    return Path(found)


def compile_for_edgetpu(
    int8_file: Path,
    work_dir: Path,
    *,
    minimum_share: float = 0.9,
    timeout_s: float = 600,
    min_runtime: int | None = None,
) -> tuple[Path, CompilerLog]:
    """Compile a fully quantized model for the Edge TPU.

    Args:
        int8_file: Path of the ``.tflite``; its metadata is lost.
        work_dir: Existing folder; the compiled file is written there as ``<stem>_edgetpu.tflite``.
        minimum_share: Minimum share of the operators that must run on the Edge TPU, 0..1.
        timeout_s: Time limit of the compiler, in seconds.
        min_runtime: Lowest Edge TPU runtime that the file must run on; None leaves it to the compiler.

    Returns:
        Path of the compiled file, without metadata, and the contents of the log.

    Raises:
        EngineError: The compiler is missing, failed, or exceeded the time limit.
        GateError: Less than ``minimum_share`` of the operators was mapped.
        ModelError: ``int8_file`` is not a TFLite model.
        UsageError: ``int8_file`` is compiled already.
    """
    program = find_compiler()
    if is_compiled(read_operators(read_model(int8_file))):
        raise UsageError(f"{int8_file}: is compiled for the Edge TPU already; give the int8 file before compilation")
    arguments = ["-s", "-o", str(work_dir), *(["-m", str(min_runtime)] if min_runtime is not None else [])]
    output = _run([str(program), *arguments, str(int8_file.resolve())], int8_file, timeout_s)
    file = work_dir / f"{int8_file.stem}_edgetpu.tflite"
    if _TABLE.search(output) is None:
        log_file = file.with_suffix(".log")
        output += log_file.read_text(errors="replace")[:_LOG_CHARACTERS] if log_file.is_file() else ""
    log = parse_log(output)
    _check_share(int8_file, log, minimum_share)
    if not file.is_file():
        raise EngineError(f"{int8_file}: {PROGRAM} {log.version} reported success, but wrote no {file.name}")
    if not is_compiled(read_operators(read_model(file))):
        raise EngineError(f"{int8_file}: {PROGRAM} {log.version} wrote a file without an operator for the Edge TPU")
    return file, log


def parse_log(text: str) -> CompilerLog:
    """Parse the compiler's output with ``--show_operations`` (the format of versions 2 to 16).

    Raises:
        EngineError: The output has no table of operators.
    """
    version = _VERSION.search(text)
    table = _TABLE.search(text)
    rows = _ROW.findall(text[table.end() :]) if table else []
    if not rows:
        raise EngineError(f"the log of {PROGRAM} has no table of operators; expected the format of version 16")
    return CompilerLog(
        version=version.group(1) if version else "of unknown version",
        statuses=tuple(OperatorStatus(name, int(count), status) for name, count, status in rows),
        on_chip_bytes=_bytes(text, "On-chip memory used for caching model parameters"),
        on_chip_left_bytes=_bytes(text, "On-chip memory remaining for caching model parameters"),
        streamed_bytes=_bytes(text, "Off-chip memory used for streaming uncached model parameters"),
    )


def _run(command: list[str], model: Path, timeout_s: float) -> str:
    # The compiler starts a child process, which must not outlive it: both are killed as one group.
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=functools.partial(die_with_parent, os.getpid()),
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise EngineError(
                    f"{model}: {PROGRAM} did not end within {timeout_s:g} s and was stopped; try a smaller image size"
                ) from error
            raise
    if process.returncode != 0 or "Model compiled successfully" not in output:
        raise EngineError(f"{model}: {PROGRAM} failed (exit code {process.returncode}): {_reason(output)}")
    return output


def _reason(output: str) -> str:
    lines = [line.strip() for line in _ERROR.findall(output)] or output.strip().splitlines()[-1:]
    text = "; ".join(dict.fromkeys(lines[:_SHOWN])) or "no output"
    return f"{text}; edge-convert lint --target edgetpu lists the requirements"


def _check_share(model: Path, log: CompilerLog, minimum_share: float) -> None:
    if log.share >= minimum_share and log.mapped:
        return
    unmapped = [status for status in log.statuses if not status.is_mapped]
    # Operators behind another CPU operator are a consequence, not a cause.
    unmapped.sort(key=lambda status: status.status == _ANOTHER_SUBGRAPH)
    shown = ", ".join(f"{status.count} {status.operator} ({status.status})" for status in unmapped[:_SHOWN])
    raise GateError(
        f"{model}: {log.mapped} of {log.total} operators ({log.share:.0%}) would run on the Edge TPU, at least "
        f"{minimum_share:.0%} are required; on the CPU: {shown}{', and others' if len(unmapped) > _SHOWN else ''}"
    )


def _bytes(text: str, label: str) -> int:
    found = re.search(rf"^{re.escape(label)}: ([0-9.]+)(B|KiB|MiB|GiB)\s*$", text, re.MULTILINE)
    return round(float(found.group(1)) * _UNITS[found.group(2)]) if found else 0
