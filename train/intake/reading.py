"""Read a source for training, and say what was found and what is left out."""

from __future__ import annotations

from edge_runtime.cli_support import note, progress_bar
from edge_runtime.datasets.resolve import resolve
from edge_runtime.datasets.samples import Split
from edge_runtime.native_stderr import silence_native_stderr
from train.intake.findings import Kind
from train.intake.pictures import Pictures, load_pictures
from train.recipe import Recipe

_LEFT_OUT_SHOWN = 5
_ABOUT_THE_WHOLE_SET = (Kind.ALIKE, Kind.UNBALANCED, Kind.FEW)


def read_pictures(source: str, sha256: str | None, recipe: Recipe) -> Pictures:
    """Resolve SRC, decode, audit and split it.

    Raises:
        DataError: It cannot be trained on.
        OutputError: A cache cannot be written.
    """
    dataset = resolve(source, sha256=sha256, progress=progress_bar)
    with silence_native_stderr(), progress_bar("reading pictures", len(dataset.samples)) as progress:
        pictures = load_pictures(dataset, recipe.input.spec(), recipe.split, recipe.seed, progress)
    counts = ", ".join(f"{len(pictures.rows(split))} {split.value}" for split in Split)
    note(f"{pictures.name}: {len(pictures.samples)} pictures in {len(pictures.labels)} classes ({counts})")
    for finding in pictures.findings:
        if finding.kind in _ABOUT_THE_WHOLE_SET:
            note(f"{pictures.name}: {finding.message}")
    if pictures.left_out:
        note(f"{len(pictures.left_out)} files left out (all are in left_out.csv; edge-train data shows them):")
    for item in pictures.left_out[:_LEFT_OUT_SHOWN]:
        note(f"  {item.sample.path}: {item.reason}")
    return pictures
