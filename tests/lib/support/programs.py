"""Run programs, modules and pieces of code in processes of their own, or a command line in this one."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest

from edge_runtime.cli_support import run_cli
from support.paths import CHECKOUT

Done = subprocess.CompletedProcess[str]


def run_module(
    module: str, *arguments: object, timeout_s: float = 300, cwd: Path = CHECKOUT, env: Mapping[str, str] | None = None
) -> Done:
    """Run ``python -m module`` and return its exit code and output."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s, cwd=cwd, env=env)


def run_code(code: str, *arguments: object, timeout_s: float = 300, check: bool = True, **options: Any) -> Done:
    """Run Python code with ``sys.argv[1:]`` in a process of its own; a failure of it is one of the test."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=check, timeout=timeout_s, **options)


def call_cli(
    cli: click.Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    program: str,
    *arguments: object,
) -> tuple[int, str, str]:
    """Run a command line in this process: exit code, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        run_cli(cli)
    captured = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, captured.out, captured.err
