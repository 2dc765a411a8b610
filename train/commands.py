"""Bodies of the commands ``edge-train run``, ``predict`` and ``data``: recipe, summary, predictions, audit."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from edge_runtime.classifier import top1, widen
from edge_runtime.contract import Manifest
from edge_runtime.errors import DatasetError, ImageError, IntegrityError, ModelError, UsageError
from edge_runtime.model.bundle import read_bundle_manifest
from edge_runtime.platform.atomic import check_free
from edge_runtime.platform.process import silence_native_stderr
from edge_runtime.preprocess import load_prepared
from edge_runtime.progress import progress_bar
from edge_runtime.results import Failed
from edge_runtime.sources.images import find_images
from edge_runtime.text import escape
from edge_runtime.workstation.datasets.resolve import resolve
from edge_runtime.workstation.datasets.samples import Split
from edge_runtime.workstation.reporting.wording import counted
from train.hardware import load_keras
from train.intake.audit import Audited, audit_files
from train.intake.audit_report import FINDINGS_FILE, REPORT_FILE, findings_json, write_clean_index, write_report
from train.intake.findings import Finding, Kind
from train.recipe import WEIGHTS_NONE, Recipe, load_recipe, override, parse_settings
from train.rundir import MODEL_FILE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from train.evaluation.evaluate import TrainingResult

_BATCH_SIZE = 32
_EXAMPLES = 3
_MAX_CLASS_LINES = 30


def resolve_recipe(name: str, options: Mapping[str, Any], settings: Sequence[str]) -> Recipe:
    """Load a recipe and change it by ``--set`` and by other options, which take precedence.

    Args:
        name: Name of a built-in recipe, or path of a recipe file.
        options: Values of options by recipe field; None for an option that is absent.
        settings: Values of ``--set``, each ``TABLE.FIELD=VALUE``.

    Raises:
        UsageError: Unknown recipe or field, or a value out of range.
    """
    recipe = load_recipe(name)
    changes = {**parse_settings(settings), **{key: value for key, value in options.items() if value is not None}}
    weights = changes.get("backbone.weights")
    if recipe.backbone is None and weights is not None:
        if weights != WEIGHTS_NONE:
            raise UsageError(f"recipe {recipe.name} trains from scratch: --weights {weights} does not apply to it")
        del changes["backbone.weights"]
    elif weights == WEIGHTS_NONE and recipe.finetune is not None:
        # Without weights nothing is frozen: the first phase trains the whole network.
        changes.setdefault("finetune.epochs", 0)
    return override(recipe, changes)


@contextlib.contextmanager
def silent_unless(is_chief: bool) -> Iterator[None]:
    """Discard the output of all processes but the chief; errors still leave the block in each."""
    if is_chief:
        yield
        return
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield


def print_summary(run: TrainingResult, out: Path) -> None:
    """Print accuracy, speed and files of a training."""
    scores, best = run.evaluation.scores, run.fitted.best
    test, validation = scores[Split.TEST], scores[Split.VALIDATION]
    speeds = {f"{name} phase" if name != "all" else "fit": speed for name, speed in run.fitted.speeds.items()}
    rates = [f"{name} {speed.images_per_second:,.0f}" for name, speed in speeds.items()]
    if run.fitted.feature_images_per_second:
        rates.insert(0, f"backbone {run.fitted.feature_images_per_second:,.0f}")
    feeding = max((speed.feed_share for speed in speeds.values()), default=0.0)
    phase = "" if best.phase == "all" else f", {best.phase} phase"
    lines = {
        "test accuracy": f"{test.accuracy:.1%} of {test.images} images "
        f"(95 % interval {test.accuracy_low:.1%} to {test.accuracy_high:.1%})",
        "validation accuracy": f"{validation.accuracy:.1%} of {validation.images} images (epoch {best.epoch}{phase})",
        "time": f"{run.seconds:.0f} s; images per second: {', '.join(rates) or 'resumed'}; "
        f"batch preparation took {feeding:.1%} of the epoch time",
        "run directory": str(out),
        "report": str(out / "report.html"),
        "next": f"edge-convert run {out}",
    }
    for name, text in lines.items():
        click.echo(f"{name:<19} {text}")


def predict_images(run: Path, paths: Sequence[Path]) -> int:
    """Print source, label and score of each image, separated by tabs.

    Returns:
        Exit code: 1 if some images cannot be read, else 0.

    Raises:
        ModelError: ``run`` is not a run directory.
    """
    if not (run / MODEL_FILE).is_file():
        raise ModelError(f"{run}: expected a run directory with {MODEL_FILE}; make one with edge-train run")
    manifest = read_bundle_manifest(run)
    load_keras(0)
    model = _load_model(run / MODEL_FILE)
    failures = 0
    for sources, images, problems in _batches(paths, manifest):
        for problem in problems:
            failures += 1
            click.echo(f"{escape(problem.source)}\terror: {problem.message}")
        if sources:
            _print_prediction(model, manifest, sources, np.stack(images))
    return int(failures > 0)


def _load_model(path: Path) -> Any:
    import keras

    try:
        # Safe mode does not run code from the file.
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise IntegrityError(f"{path}: Keras cannot load it ({reason})") from error


def _print_prediction(
    model: Any, manifest: Manifest, sources: Sequence[str], images_nhwc_rgb_u8: NDArray[np.uint8]
) -> None:
    outputs = np.asarray(model.predict(images_nhwc_rgb_u8, batch_size=_BATCH_SIZE, verbose=0), np.float32)
    probabilities = widen(outputs, manifest.output)
    answers = top1(probabilities, manifest.output)
    for source, answer, row in zip(sources, answers, probabilities, strict=True):
        click.echo(f"{escape(source)}\t{escape(manifest.labels[answer])}\t{row[answer]:.4f}")


def _batches(
    paths: Sequence[Path], manifest: Manifest
) -> Iterator[tuple[list[str], list[NDArray[np.uint8]], list[Failed]]]:
    """Sources and prepared images, up to 32 at a time, and what could not be read among them."""
    sources: list[str] = []
    images: list[NDArray[np.uint8]] = []
    problems: list[Failed] = []
    for item in find_images(paths):
        if isinstance(item, Failed):
            problems.append(item)
            continue
        try:
            images.append(load_prepared(item, manifest.input))
            sources.append(str(item))
        except ImageError as error:
            problems.append(Failed.of(str(item), error))
        if len(images) == _BATCH_SIZE:
            yield sources, images, problems
            sources, images, problems = [], [], []
    yield sources, images, problems


def run_audit(
    source: str, sha256: str | None, out: Path | None, clean: Path | None, *, as_json: bool, overwrite: bool
) -> None:
    """Audit a data set, print the findings, and write the report and the cleaned index.

    Args:
        source: Data set, as `edge_runtime.workstation.datasets.resolve` takes it.
        sha256: Expected SHA-256 of a zip, or None.
        out: Folder of the report; None for ``audits/NAME``.
        clean: Path of the cleaned index, or None.
        as_json: True to print ``findings.json`` instead of the summary.
        overwrite: True to replace existing output.

    Raises:
        DatasetError: The set cannot be listed, or a class has no usable image. The report is still written in the
            second case, the cleaned index is not.
        OutputError: Output exists already or cannot be written.
    """
    if out:
        check_free(out, overwrite=overwrite, marker=FINDINGS_FILE)
    if clean:
        check_free(clean, overwrite=overwrite)
    dataset = resolve(source, sha256=sha256, progress=progress_bar)
    out = out or Path("audits") / _folder_name(dataset.name)
    check_free(out, overwrite=overwrite, marker=FINDINGS_FILE)
    # libjpeg and libpng print warnings without file names; the report lists the files.
    with silence_native_stderr():
        with progress_bar("reading files", len(dataset.samples)) as progress:
            audited = audit_files(dataset, progress)
        write_report(out, audited, overwrite=overwrite)
    if as_json:
        click.echo(findings_json(audited), nl=False)
    else:
        _print_summary(audited, out / REPORT_FILE)
    _check_usable(audited)
    listed = write_clean_index(clean, audited, overwrite=overwrite) if clean else 0
    if not as_json:
        if clean:
            click.echo(f"index   {clean} ({listed} images)")
        data = shlex.quote(str(clean or source))
        click.echo(f"next    edge-train run --data {data} --out runs/{_folder_name(out.name)}")


def _folder_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("._-")[:64] or "data"


def _check_usable(audited: Audited) -> None:
    present = {sample.label for sample in audited.audit.kept}
    missing = [label for label in audited.dataset.labels if label not in present]
    if missing:
        raise DatasetError(
            f"{audited.dataset.name}: no image of class {', '.join(map(repr, missing))} can be used; "
            "add images or remove the class"
        )


def _print_summary(audited: Audited, page: Path) -> None:
    result = audited.audit
    files = len(audited.dataset.samples) + len(audited.dataset.ignored)
    click.echo(
        f"{audited.dataset.name}: {counted(files, 'file')}, {len(result.kept)} kept, {len(result.left_out)} left out\n"
    )
    _print_classes(audited)
    for kind in Kind:
        findings = [finding for finding in result.findings if finding.kind is kind]
        if findings:
            _print_findings(audited, kind, findings)
    if not result.findings:
        click.echo("\nNo findings: every file can be used as it is.")
    click.echo(f"\nreport  {page}")


def _print_classes(audited: Audited) -> None:
    """Print the number of kept images by class and split."""
    samples = audited.audit.kept
    splits: list[Split | None] = [split for split in Split if any(sample.split is split for sample in samples)]
    if any(sample.split is None for sample in samples):
        splits.append(None)
    counts = Counter((sample.label, sample.split) for sample in samples)
    rows = [["class", *(split.value if split else "images" for split in splits)]]
    rows += [[label, *(str(counts[label, split]) for split in splits)] for label in audited.dataset.labels]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows[: 1 + _MAX_CLASS_LINES]:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        click.echo("  ".join(cells))
    if len(rows) > 1 + _MAX_CLASS_LINES:
        click.echo(f"and {len(rows) - 1 - _MAX_CLASS_LINES} more classes")


def _print_findings(audited: Audited, kind: Kind, findings: Sequence[Finding]) -> None:
    files = {sample for finding in findings for sample in finding.samples}
    click.echo(f"\n{kind.heading}{': ' + counted(len(files), 'file') if files else ''}. {kind.advice}")
    for finding in findings[:_EXAMPLES]:
        names = [escape(audited.short_name(sample.path)) for sample in finding.samples[:_EXAMPLES]]
        more = len(finding.samples) - len(names)
        listed = ", ".join(names) + (f" and {more} more" if more else "")
        click.echo(f"  {finding.message}{f': {listed}' if names else ''}")
    if len(findings) > _EXAMPLES:
        click.echo(f"  and {len(findings) - _EXAMPLES} more")
