"""``edge-run inspect``: what a model is, and whether its files are what they were."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_runtime import cli as edge_run
from edge_runtime.cli_support import run_cli
from edge_runtime.testing import write_tiny_bundle, write_tiny_model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the tiny model, which answers red, green or blue."""
    return write_tiny_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process: exit code, standard output, standard error."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edge-run", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            run_cli(edge_run.cli)
        captured = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, captured.out, captured.err

    return call


def test_inspect_tells_the_contract_and_that_files_are_intact(run: Run, bundle: Path) -> None:
    code, out, err = run("inspect", bundle)
    assert (code, err) == (0, "")
    for text in ("tiny", "3: red, green, blue", "8 x 8 px", "uint8 [1, 8, 8, 3], scale 0.00390625", "intact", "passed"):
        assert text in out
    assert out.count("the default on this device") == 1
    code, out, _ = run("inspect", bundle, "--json", "--variant", "int8")
    found = json.loads(out)
    assert (code, found["kind"], len(found["files"])) == (0, "bundle", 1)
    assert found["manifest"]["labels"] == ["red", "green", "blue"]
    assert found["files"][0]["integrity"] == "intact"
    assert found["files"][0]["check"]["passed"] is True


def test_inspect_and_classify_notice_an_altered_file(run: Run, tmp_path: Path) -> None:
    altered = write_tiny_bundle(tmp_path / "altered")
    model = altered / "tiny-int8.tflite"
    data = bytearray(model.read_bytes())
    data[300] ^= 1
    model.write_bytes(data)
    code, out, _ = run("inspect", altered)
    assert code == 4
    assert out.count("integrity altered") == 1
    assert out.count("integrity intact") == 1
    assert "was altered or damaged" in out
    photo = tmp_path / "photo.png"
    assert cv2.imwrite(str(photo), np.zeros((9, 9, 3), np.uint8))
    assert run("classify", altered, photo, "--variant", "float32")[0] == 0
    for arguments in ((altered, photo, "--variant", "int8"), (model, photo)):
        code, out, err = run("classify", *arguments)
        assert (code, out) == (4, "")
        assert "was altered or damaged" in err
    assert run("inspect", model)[0] == 4
    (altered / "tiny-float32.tflite").unlink()
    code, out, _ = run("inspect", altered)
    assert (code, "is missing" in out) == (4, True)


def test_inspect_of_a_foreign_file_says_what_is_left_to_say(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("inspect", write_tiny_model(tmp_path / "foreign.tflite", with_manifest=False))
    assert code == 0
    assert "--labels FILE, one label a line (3 lines)" in out
    assert "--crop" in out
    assert "--input-range" not in out
    (tmp_path / "cut.tflite").write_bytes((tmp_path / "foreign.tflite").read_bytes()[:200])
    code, out, err = run("inspect", tmp_path / "cut.tflite")
    assert (code, out, err.count("\n")) == (4, "", 1)
