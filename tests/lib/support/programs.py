"""Run programs, modules and pieces of code in processes of their own, or a command line in this one."""

import contextlib
import os
import subprocess
import sys

import pytest

from edge_runtime.cli_support import run_cli
from support.paths import CHECKOUT, TESTS


def run(*command, timeout_s=300, check=False, **options):
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, check=check, timeout=timeout_s, **options)


def run_module(module, *arguments, **options):
    """Run ``python -m module`` in the checkout, unless another ``cwd`` is given."""
    return run(sys.executable, "-m", module, *arguments, **{"cwd": CHECKOUT, **options})


def run_code(code, *arguments, check=True, **options):
    """Run Python code with ``sys.argv[1:]`` in a process of its own; a failure of it is one of the test."""
    return run(sys.executable, "-c", code, *arguments, check=check, **options)


@contextlib.contextmanager
def killed_code(code, *arguments):
    """Run Python code, which may import `support`, from its first line of output to the end of the block: SIGKILL."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS / "lib")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def check_refusal(done, code, says):
    """Check that a program ended with an exit code and a sentence that holds ``says``, not with a traceback."""
    assert (done.returncode, says in done.stderr, "Traceback" in done.stderr) == (code, True, False), done.stderr


def call_cli(cli, monkeypatch, capsys, program, *arguments):
    """Run a command line in this process: exit code, standard output, standard error."""
    monkeypatch.setattr(sys, "argv", [program, *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        run_cli(cli)
    captured = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, captured.out, captured.err
