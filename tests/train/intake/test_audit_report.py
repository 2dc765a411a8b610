"""``edge-train data`` as its user meets it: summary, report, machine-readable list, cleaned index, bad input."""

import functools
import json
import os
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

import train.cli
from edge_runtime.workstation.datasets.resolve import resolve
from edge_runtime.workstation.datasets.samples import Dataset, Sample
from support.pages import bare
from support.programs import call_cli
from train.intake.audit import audit_files
from train.intake.audit_report import render_audit_page


@pytest.fixture
def edge_train(monkeypatch, capsys, tmp_path):
    """Run ``edge-train`` in this process, in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    return functools.partial(call_cli, train.cli.cli, monkeypatch, capsys, "edge-train")


def write_image(path, seed, suffix=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    image = cv2.resize(coarse, (96, 72), interpolation=cv2.INTER_CUBIC)
    path.write_bytes(cv2.imencode(suffix or path.suffix, image)[1].tobytes())


@pytest.fixture
def messy(tmp_path):
    """Two classes of 20 good images, and one of every mistake."""
    root = tmp_path / "my photos"
    for number in range(20):
        write_image(root / "cat" / f"{number}.png", number)
        write_image(root / "dog" / f"{number}.png", 100 + number)
    write_image(root / "cat" / "0 again.jpg", 0)
    shutil.copy(root / "cat/1.png", root / "cat/1 copy.png")
    shutil.copy(root / "cat/2.png", root / "dog/a cat.png")
    write_image(root / "dog" / "renamed.jpg", 300, ".png")
    (root / "cat/cut.png").write_bytes((root / "cat/3.png").read_bytes()[:900])
    (root / "cat/<script>alert(1)<.jpg").write_bytes(b"<!doctype html><p>404")
    (root / "dog/notes.txt").write_text("hello")
    return root


def test_everything_is_found_said_and_written(messy, edge_train, tmp_path):
    before = {path: path.read_bytes() for path in messy.rglob("*.*")}
    code, out, _ = edge_train("data", messy, "--clean", "clean.csv")
    assert code == 0
    assert "my photos: 47 files, 42 kept, 5 left out" in out
    for line in (
        "the same file is labelled cat and dog: cat/2.png, dog/a cat.png",
        "is truncated: the file ends before the image does: cat/cut.png",
        "is not an image: its content is of no known image format: cat/<script>alert(1)<.jpg",
        "its name is not that of an image: dog/notes.txt",
        "2 files have the same content: cat/1 copy.png, cat/1.png",
        "2 files show almost the same image: cat/0 again.jpg, cat/0.png",
        "PNG by content, but named .jpg: dog/renamed.jpg",
        "next    edge-train run --data clean.csv --out runs/my-photos",
    ):
        assert line in out
    assert {path: path.read_bytes() for path in messy.rglob("*.*")} == before
    assert sorted(path.name for path in (tmp_path / "audits/my-photos").iterdir()) == ["findings.json", "report.html"]

    data = json.loads((tmp_path / "audits/my-photos/findings.json").read_text())
    assert (data["files"], data["kept"], data["left_out"]) == (47, 42, 5)
    assert data["classes"] == {"cat": {"": 21}, "dog": {"": 21}}
    clash = next(finding for finding in data["findings"] if finding["kind"] == "two-classes")
    assert [entry["file"] for entry in clash["files"]] == [str(messy / "cat/2.png"), str(messy / "dog/a cat.png")]
    assert {entry["reason"] for entry in data["left_out_files"]} >= {"the same file is also labelled dog"}

    cleaned = resolve("clean.csv")
    assert len(cleaned.samples) == len({sample.sha256 for sample in cleaned.samples}) == 41
    assert cleaned.labels == ("cat", "dog")
    assert {sample.split for sample in cleaned.samples} == {None}
    assert edge_train("data", "clean.csv")[1].startswith("clean: 41 files, 41 kept, 0 left out")


def test_the_page_is_self_contained_and_escapes_names(messy, edge_train, tmp_path):
    assert edge_train("data", messy, "--out", "audit")[0] == 0
    page = (tmp_path / "audit/report.html").read_text()
    assert not [part for part in ("<script", "http") if part in bare(page)]
    assert [part for part in ("&lt;script&gt;alert(1)&lt;.jpg", 'class="out"') if part not in page] == []
    assert page.count("data:image/jpeg;base64,") == 2 + 2 + 2 + 1


@pytest.mark.slow
def test_the_page_of_a_large_set_stays_small(tmp_path):
    write_image(tmp_path / "x.png", 1)
    samples = tuple(Sample(tmp_path / "x.png", label) for label in "ab" for _ in range(3000))
    audited = audit_files(Dataset("big", ("a", "b"), samples))
    assert len(audited.audit.left_out) == 6000
    assert len(render_audit_page(audited)) < 100_000


def test_json_goes_to_standard_output_alone(messy, edge_train):
    code, out, err = edge_train("data", messy, "--json")
    assert (code, json.loads(out)["name"], err) == (0, "my photos", "")


def test_a_good_set_says_so(colored_images, edge_train):
    code, out, _ = edge_train("data", colored_images)
    following = f"next    edge-train run --data {colored_images} --out runs/colors"
    assert (code, "No findings: every file can be used as it is." in out, following in out) == (0, True, True)


def test_nothing_is_overwritten_unless_asked(messy, edge_train, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    (tmp_path / "mine.csv").write_text("x")
    says = "error: mine.csv: already exists; choose another name or pass --overwrite\n"
    assert edge_train("data", messy, "--clean", "mine.csv")[::2] == (7, says)
    assert edge_train("data", messy, "--out", "mine", "--overwrite")[0] == 7
    assert (tmp_path / "mine.csv").read_text() == "x"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    assert not (tmp_path / "audits").exists()
    assert edge_train("data", messy, "--clean", "mine.csv", "--overwrite")[0] == 0
    assert edge_train("data", messy)[0] == 7
    assert edge_train("data", messy, "--overwrite")[0] == 0


def test_a_class_without_a_usable_image_is_an_error_with_a_report(edge_train, tmp_path):
    for number in range(3):
        write_image(tmp_path / "set/good" / f"{number}.png", number)
    (tmp_path / "set/bad").mkdir()
    (tmp_path / "set/bad/x.jpg").write_bytes(b"\xff\xd8\xff")
    code, out, err = edge_train("data", "set", "--clean", "clean.csv")
    assert code == 3
    assert "is truncated: the file ends before the image does: bad/x.jpg" in out
    assert err == "error: set: no image of class 'bad' can be used; add images or remove the class\n"
    assert (tmp_path / "audits/set/report.html").is_file()
    assert not (tmp_path / "clean.csv").exists()


@pytest.mark.parametrize("source", ["nowhere", "empty"])
def test_a_source_that_cannot_be_listed_is_one_sentence(source, edge_train, tmp_path):
    (tmp_path / "empty").mkdir()
    code, out, err = edge_train("data", source)
    assert (code, out, err.count("\n")) == (3, "", 1)
    assert err.startswith("error: ")
    assert not (tmp_path / "audits").exists()


def test_a_place_that_cannot_be_written_is_one_sentence(messy, edge_train, tmp_path):
    (tmp_path / "file").write_text("x")
    code, out, err = edge_train("data", messy, "--out", "file/audit")
    assert (code, out, err.count("\n")) == (7, "", 1)
    code, _, err = edge_train("data", messy, "--clean", "file/clean.csv")
    assert (code, err.count("\n")) == (7, 1)


def test_names_that_are_no_text_are_shown_and_listed(edge_train, tmp_path):
    for number in range(3):
        write_image(tmp_path / "set/a" / f"{number}.png", number)
        write_image(tmp_path / "set/b" / f"{number}.png", 10 + number)
    name = b"\xff\n\x1b[31m.png"
    Path(os.fsdecode(bytes(tmp_path / "set/b") + b"/" + name)).write_bytes(b"no image")
    code, out, _ = edge_train("data", "set", "--clean", "clean.csv")
    assert code == 0
    assert r"b/\udcff\n\x1b[31m.png" in out
    left_out = json.loads((tmp_path / "audits/set/findings.json").read_text())["left_out_files"]
    assert os.fsencode(left_out[0]["file"]).endswith(name)


@pytest.mark.parametrize("where", ["train.intake.audit.examine", "train.intake.audit_report.render_audit_page"])
def test_an_interrupt_leaves_nothing_behind(where, messy, edge_train, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupt)
    code, out, _ = edge_train("data", messy, "--clean", "clean.csv")
    assert (code, out) == (130, "")
    assert [path for path in tmp_path.rglob("*") if path.is_file() and messy not in path.parents] == []


def test_the_hard_example(real_data, edge_train):
    """One file in both classes, one copy, 37 near copies from the web, and PNG files named .jpg."""
    code, out, _ = edge_train("data", real_data("happy_sad"), "--json")
    assert code == 0
    data = json.loads(out)
    files = {}
    for finding in data["findings"]:
        files[finding["kind"]] = files.get(finding["kind"], 0) + len(finding["files"])
    assert files == {"two-classes": 2, "duplicate": 2, "near-duplicate": 74, "wrong-suffix": 4}
    assert (data["kept"], data["left_out"]) == (236, 2)


def test_a_zip_in_this_folder_with_a_readme_inside_is_audited(colored_images, edge_train, tmp_path):
    with zipfile.ZipFile(tmp_path / "good.zip", "w") as archive:
        archive.writestr("photos/readme.txt", "about")
        for file in colored_images.rglob("*.png"):
            archive.write(file, f"photos/{file.relative_to(colored_images)}")
    code, out, err = edge_train("data", "good.zip")
    assert (code, out.splitlines()[0]) == (0, "good: 61 files, 60 kept, 1 left out"), err
    assert "its name is not that of an image: good.zip/photos/readme.txt" in out
