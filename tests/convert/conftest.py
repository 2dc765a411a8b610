"""Fixtures that several tests of the conversion share."""

import os

import pytest

from convert.options import ForeignOptions, InputRange
from convert.record import RECORD_FILE, ConversionRecord
from edge_runtime.contract import Crop


@pytest.fixture(scope="session")
def record(small_bundle):
    return ConversionRecord.from_json((small_bundle / RECORD_FILE).read_text())


@pytest.fixture
def said(tmp_path):
    (tmp_path / "labels.txt").write_text("cat\ndog\nfox\n")
    return ForeignOptions(tmp_path / "labels.txt", InputRange.SIGNED, Crop.STRETCH)


@pytest.fixture
def install_compiler(tmp_path, monkeypatch):
    def install(text):
        program = tmp_path / "bin" / "edgetpu_compiler"
        program.parent.mkdir()
        program.write_text(text)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        return program.parent

    return install
