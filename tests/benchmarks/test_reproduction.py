"""A report can be measured again from itself, and says what is not as it was."""

import dataclasses
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.machine import MachineRecord
from benchmarks.records import read_report
from benchmarks.reproduction import changed_files, config_of, differences, lost_settings
from benchmarks.settings import Settings
from edge_runtime.contract import MANIFEST_FILE
from edge_runtime.model.bundle import file_sha256
from support.files import put
from support.reports import sample_report, with_data, with_machine


@pytest.fixture(scope="module")
def report():
    return sample_report()


def config(report, **changes):
    return config_of(report, Path("again"), command="edge-bench reproduce REPORT", **changes)


def test_the_same_run_follows_from_a_written_report(report, tmp_path):
    settings = Settings(split="test", limit=50, variants=("int8",), rounds=3, seed=7, sweep_threads=(1, 2))
    then = replace(with_data(report, source="photos.zip"), settings=settings)
    again = config(read_report(put(tmp_path, "report.json", then.to_json())))
    assert again.settings == settings
    assert (again.bundle, again.data, again.keras) == (Path("bundles/pets"), "photos.zip", Path("runs/pets"))
    assert (again.out, again.overwrite, again.command) == (Path("again"), False, "edge-bench reproduce REPORT")


def test_images_of_the_run_are_taken_from_the_run(report):
    of_run = with_data(report, source="split.csv of runs/pets")
    assert config(of_run).data is None
    moved = config(of_run, keras=Path("elsewhere/pets"))
    assert (moved.data, moved.keras) == (None, Path("elsewhere/pets"))
    assert config(replace(of_run, keras_run=None)).data == "split.csv of runs/pets"


def test_places_can_be_given_anew(report):
    again = config(report, bundle=Path("b"), data="d.zip", keras=Path("k"), power="rapl", overwrite=True)
    assert (again.bundle, again.data, again.keras) == (Path("b"), "d.zip", Path("k"))
    assert (again.settings.power, again.overwrite) == ("rapl", True)


def test_a_report_starts_no_program(report):
    hostile = replace(report, settings=Settings(power="command:touch /tmp/owned"))
    again = config(hostile)
    assert again.settings.power == "none"
    assert "--power names it again" in lost_settings(hostile, again)[0]
    assert config(hostile, power="command:my-meter").settings.power == "command:my-meter"
    assert lost_settings(report, config(report)) == ()


def test_changed_files_are_told_before_anything_is_measured(report, tmp_path):
    bundle, keras_file = tmp_path / "bundle", put(tmp_path, "run/model.keras", "keras")
    manifest = put(bundle, MANIFEST_FILE, "manifest")
    artifacts = [
        replace(subject, sha256=file_sha256(put(bundle, subject.file, subject.name)))
        for subject in report.subjects
        if not subject.is_keras
    ]
    hashes = {"bundle_manifest_sha256": file_sha256(manifest), "keras_sha256": file_sha256(keras_file)}
    then = replace(report, subjects=tuple(artifacts), **hashes)
    now = config(then, bundle=bundle, keras=keras_file.parent)
    assert changed_files(then, now) == ()
    (bundle / artifacts[0].file).write_text("other bytes")
    (bundle / artifacts[1].file).unlink()
    keras_file.write_text("trained again")
    changed, missing, keras = changed_files(then, now)
    assert artifacts[0].file in changed
    assert missing.endswith("now it is not there.")
    assert keras.startswith("The Keras model was ")


def test_a_strangers_report_names_no_file_outside_the_bundle(report, tmp_path):
    (tmp_path / "bundle").mkdir()
    secret = put(tmp_path, "secret", "x")
    for bundle, file, words in ((tmp_path / "bundle", "../secret", "not there"), (Path("/dev"), "zero", "zero")):
        odd = replace(report.subjects[-1], file=file, sha256=file_sha256(secret))
        hostile = replace(report, subjects=(odd,), keras_run=None)
        lines = changed_files(hostile, config(hostile, bundle=bundle))
        assert any(file in line and words in line for line in lines)


def test_the_same_report_has_no_differences(report):
    assert differences(report, report) == ()
    later = replace(report, created_utc="2027-01-01T00:00:00+00:00", duration_s=1.0, command="x")
    # What a machine does at the moment is in the figures, not in what they were measured on.
    assert differences(report, with_machine(later, load_average_1min=9.0)) == ()
    # A kernel counts the memory a little differently.
    assert differences(report, with_machine(report, memory_bytes=8_010_000_000)) == ()


MACHINE_CHANGES = [
    ({"cpu_model": "Other chip"}, "The processor was Sample chip, now it is Other chip."),
    ({"architecture": "aarch64"}, "The architecture was x86_64, now it is aarch64."),
    ({"simd": ()}, "now it is none."),
    ({"cores_usable": 1}, "The number of usable cores was 2, now it is 1."),
    ({"governor": None}, "The frequency governor was performance, now it is not there."),
    ({"memory_bytes": 4_000_000_000}, "The memory in bytes was 8000000000, now it is 4000000000."),
    ({"memory_bytes": None}, "now it is not there."),
    ({"os_name": "Other OS 1"}, "now it is Other OS 1."),
    ({"kernel": "Linux 7.0.0"}, "The kernel was Linux 6.1.0, now it is Linux 7.0.0."),
    ({"libc": "musl 1"}, "now it is musl 1."),
    ({"python": "3.14.0"}, "The Python was 3.11.9, now it is 3.14.0."),
    ({"environment": {"OMP_NUM_THREADS": "1"}}, "variable OMP_NUM_THREADS was not there, now it is 1."),
    ({"git_revision": "a" * 40}, "The git revision was"),
]


@pytest.mark.parametrize(("changes", "words"), MACHINE_CHANGES)
def test_each_change_of_the_machine_is_one_sentence(report, changes, words):
    (line,) = differences(report, with_machine(report, **changes))
    assert words in line


def test_every_field_of_the_machine_is_compared_or_left_out_on_purpose():
    left_out = {"load_average_1min", "cores_total"}  # the one is in the figures, the other bears on none
    compared = {name for changes, _ in MACHINE_CHANGES for name in changes} | {"virtualised", "packages", "git_dirty"}
    assert {field.name for field in dataclasses.fields(MachineRecord)} == left_out | compared


def test_packages_models_images_and_settings(report):
    packages = {"numpy": "2.5.0", "onnxruntime": "1.31.1"}
    *others, artifact = report.subjects
    new = with_data(with_machine(report, packages=packages, git_dirty=True, virtualised=None), sha256="8" * 64)
    new = replace(new, tool="edgekit 0.2.0", bundle_manifest_sha256="9" * 64, keras_sha256=None)
    subjects = (*others, replace(artifact, sha256="7" * 64))
    new = replace(new, subjects=subjects, settings=replace(report.settings, rounds=3))
    text = "\n".join(differences(with_machine(report, git_dirty=False, virtualised=True), new))
    for words in (
        "The bundle's manifest was 111111111111, now it is 999999999999.",
        f"The artifact {artifact.name} was 333333333333, now it is 777777777777.",
        "The Keras model was 222222222222, now it is not there.",
        "The set of images was",
        "The edgekit release was edgekit 0.1.0, now it is edgekit 0.2.0.",
        "The package numpy was 2.4.0, now it is 2.5.0.",
        "The package ai-edge-litert was 2.3.0, now it is not there.",
        "The package onnxruntime was not there, now it is 1.31.1.",
        "The virtual machine was yes, now it is not there.",
        "The setting rounds was",
        "The checkout of the new report held altered files",
    ):
        assert words in text


def test_what_strangers_write_cannot_steer_a_terminal(report):
    hostile = with_machine(report, cpu_model="\x1b[2J" + "x" * 5000)
    (line,) = differences(hostile, report)
    assert line.isprintable()
    assert len(line) < 300
