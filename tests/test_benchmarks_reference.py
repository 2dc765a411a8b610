"""Reference reports: how one is made of a report, and that those in the repository are what they should be."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cli_reference import reference
from benchmarks.comparison.anonymous import file_name, traces, without_paths
from benchmarks.comparison.command import CompareConfig, run_compare
from benchmarks.comparison.files import load_report
from benchmarks.comparison.known import REFERENCE_FOLDER, find_report, known_references
from benchmarks.comparison.reference import reference_name, slug, unfit, write_reference
from benchmarks.records.accuracy import Flip
from benchmarks.records.data import Unreadable
from benchmarks.records.report import Report, Verdict
from benchmarks.report.testing import Sample, sample_report
from benchmarks.statistics import Interval, Ratio
from edge_runtime.errors import OutputError, UsageError

SAMPLES = (Sample("keras-function", 4.2), Sample("float32", 0.7), Sample("int8", 0.5, lost=3))
HOME = "/home/anna b/my photos"
FOUND = sorted(known_references())
LARGEST_BYTES = 1 << 20


def with_machine(report: Report, **changes: Any) -> Report:
    return dataclasses.replace(report, machine=dataclasses.replace(report.machine, **changes))


def clean() -> Report:
    report = with_machine(
        sample_report(SAMPLES),
        git_dirty=False,
        os_name="Debian GNU/Linux 12 (bookworm)",
        virtualised=False,
        environment={},
    )
    return dataclasses.replace(report, bundle="pets", keras_run="pets-run", verdict=Verdict("int8", "Take int8."))


def private() -> Report:
    """A report as a user's own run writes it, full of folders."""
    report = clean()
    flip = Flip(f"{HOME}/cat/1.jpg", "cat", "cat", 0.9, "dog", 0.6)
    performance = report.subjects[2].performance
    assert performance is not None
    assert performance.against_keras is not None
    subject = dataclasses.replace(
        report.subjects[2],
        performance=dataclasses.replace(
            performance, against_keras=dataclasses.replace(performance.against_keras, flips=(flip,))
        ),
    )
    return dataclasses.replace(
        report,
        command=f"edge-bench run ~/bundles/pets --keras=/srv/runs/pets --data '{HOME}' --out reports/pets",
        bundle="~/bundles/pets",
        keras_run="/srv/runs/pets",
        data=dataclasses.replace(
            report.data,
            source=HOME,
            unreadable=(Unreadable(f"{HOME}/dog/2.jpg", f"{HOME}/dog/2.jpg: cannot be decoded"),),
        ),
        subjects=(*report.subjects[:2], subject),
        remarks=(
            "The set at https://user:secret@example.org/sets/pets.zip?token=1 has one picture twice.",
            "/opt/venv/lib/libx.so was loaded (see ~/.cache/x).",
            r"So was C:\Users\anna\x.dll.",
        ),
    )


@pytest.mark.parametrize("name", FOUND or [pytest.param("", marks=pytest.mark.skip(reason="no reference report yet"))])
def test_a_reference_in_the_repository_is_fit_and_tells_nothing_private(name: str) -> None:
    path = known_references()[name]
    assert path.stat().st_size < LARGEST_BYTES
    report = load_report(path).report
    assert list(unfit(report)) == []
    assert traces(report) == ()
    assert slug(report.model_name) == path.stem
    assert re.fullmatch("[a-z0-9]+(-[a-z0-9]+)+", path.parent.name)


def test_the_folder_holds_reports_and_their_page_and_nothing_else() -> None:
    files = {path.relative_to(REFERENCE_FOLDER).as_posix() for path in REFERENCE_FOLDER.rglob("*") if path.is_file()}
    assert files == {"README.md", *(f"{name}.json" for name in FOUND)}


def test_paths_are_cut_to_names_wherever_they_are() -> None:
    report = private()
    assert len(traces(report)) > 5
    bare = without_paths(report)
    assert traces(bare) == ()
    text = bare.to_json()
    for word in ("anna", "my photos/", "srv", "secret", "token", "example.org", "/opt", "~"):
        assert word not in text
    assert bare.command == "edge-bench run pets --keras=pets --data 'my photos' --out pets"
    assert (bare.bundle, bare.keras_run, bare.data.source) == ("pets", "pets", "my photos")
    assert bare.data.unreadable == (Unreadable("2.jpg", "2.jpg: cannot be decoded"),)
    performance = bare.subjects[2].performance
    assert performance is not None
    assert performance.against_keras is not None
    assert performance.against_keras.flips[0].file == "1.jpg"
    assert bare.remarks[1] == "libx.so was loaded (see x)."


def test_figures_and_versions_stay_as_they_are() -> None:
    report = clean()
    bare = without_paths(report)
    assert bare.subjects[0] == report.subjects[0]
    assert bare.machine == report.machine  # "GNU/Linux" is no path
    assert (bare.settings, bare.board, bare.verdict) == (report.settings, report.board, report.verdict)


PARTS = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8).filter(
    lambda part: part not in (".", "..") and "://" not in part
)


@given(st.lists(PARTS, min_size=1, max_size=4), st.booleans())
def test_no_folder_is_left_in_the_fields_that_hold_paths(parts: list[str], is_absolute: bool) -> None:
    path = "/" * is_absolute + "/".join(["folder", *parts])
    report = dataclasses.replace(clean(), bundle=path, keras_run=path)
    bare = without_paths(report)
    assert "/" not in bare.bundle
    assert bare.bundle == bare.keras_run == file_name(path)


def test_an_embedded_picture_or_a_very_long_text_is_found() -> None:
    bare = without_paths(clean())
    assert traces(bare) == ()
    assert "picture" in traces(dataclasses.replace(bare, remarks=("data:image/jpeg;base64,abcd",)))[0]
    assert "10000 characters" in traces(dataclasses.replace(bare, remarks=("a" * 10_000,)))[0]


def test_a_report_becomes_a_reference_that_can_be_compared_with(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(private().to_json())
    done = CliRunner().invoke(
        reference, [str(tmp_path), "--out", str(tmp_path / "refs"), "--board", "My Board"], standalone_mode=False
    )
    assert done.exception is None
    path = tmp_path / "refs/my-board-sample-chip-debian-12/pets.json"
    assert done.output.strip() == str(path)
    assert find_report("reference:my-board-sample-chip-debian-12/pets", tmp_path / "refs") == path
    assert traces(load_report(path).report) == ()
    assert run_compare(CompareConfig(str(path), str(tmp_path)))[1] == 0
    with pytest.raises(OutputError, match="already exists"):
        write_reference(tmp_path, tmp_path / "refs", board="My Board")
    write_reference(tmp_path, tmp_path / "refs", board="My Board", overwrite=True)


def with_speedup(report: Report, speedup: Ratio | None) -> Report:
    subjects = []
    for subject in report.subjects:
        assert subject.performance is not None
        stream = dataclasses.replace(subject.performance.single_stream, speedup=speedup)
        performance = dataclasses.replace(subject.performance, single_stream=stream)
        subjects.append(dataclasses.replace(subject, performance=performance))
    return dataclasses.replace(report, subjects=tuple(subjects))


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        (dataclasses.replace(clean(), invalid=("The board throttled.",)), "marked invalid"),
        (with_machine(clean(), git_dirty=True), "altered files"),
        (dataclasses.replace(clean(), settings=dataclasses.replace(clean().settings, quick=True)), "--quick"),
        (with_speedup(clean(), Ratio(8.0, Interval(6.0, 10.0), 20)), "more than 5 % in another run"),
        (with_speedup(clean(), Ratio(8.0, None, 2)), "more than 5 % in another run"),
        (with_speedup(clean(), None), "--keras"),
        (
            dataclasses.replace(
                clean(),
                board=dataclasses.replace(
                    clean().board, after=dataclasses.replace(clean().board.after, throttling=("throttled now",))
                ),
            ),
            "throttled now",
        ),
    ],
)
def test_what_is_no_fit_reference_is_refused(report: Report, reason: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(report.to_json())
    with pytest.raises(UsageError, match=reason):
        write_reference(tmp_path, tmp_path / "refs")
    assert not (tmp_path / "refs").exists()


@pytest.mark.parametrize(
    ("changes", "board", "name"),
    [
        ({"cpu_model": "AMD EPYC", "virtualised": True}, None, "vm-amd-epyc-debian-12/pets"),
        ({"cpu_model": "Intel(R) Core(TM) i5"}, None, "pc-intel-r-core-tm-i5-debian-12/pets"),
        ({"cpu_model": "../../x", "os_name": None}, None, "pc-x-linux-6-1-0/pets"),
        (
            {"cpu_model": "Raspberry Pi 4 Model B Rev 1.4", "architecture": "aarch64"},
            None,
            "raspberry-pi-4-model-b-rev-1-4-aarch64-debian-12/pets",
        ),
        ({"cpu_model": "?", "architecture": "aarch64"}, "Coral Dev Board", "coral-dev-board-aarch64-debian-12/pets"),
    ],
)
def test_a_reference_is_named_after_board_processor_and_system(
    changes: dict[str, Any], board: str | None, name: str
) -> None:
    assert reference_name(with_machine(clean(), **changes), board) == name
