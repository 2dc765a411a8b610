"""How right each model is, in more detail than one figure, as tables."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.records.accuracy import LabelShare, Moved
from benchmarks.records.performance import Performance, SubjectResult
from benchmarks.records.report import Report
from benchmarks.report.table import NOTHING, Cell, Row, Table, is_keras, measured, row_of, without_empty_columns
from benchmarks.report.wording import counted, percent, percent_range

MOST_LABELS = 20
MOST_MOVED = 30


def scores_table(report: Report) -> Table | None:
    """Whether the scores can be believed, and what changed beside Keras; or None where nobody was measured."""
    rows = []
    for subject, figures in measured(report):
        reject, against = figures.accuracy.reject, figures.against_keras
        right = reject.right_of_answered if reject else None
        cells = (
            Cell(percent(figures.accuracy.calibration_error)),
            Cell(f"{reject.threshold:.2f}") if reject else NOTHING,
            Cell(percent(reject.answered.fraction), percent_range(reject.answered)) if reject else NOTHING,
            Cell(percent(right.fraction), percent_range(right)) if right else NOTHING,
            Cell(str(against.lost)) if against else NOTHING,
            Cell(str(against.gained)) if against else NOTHING,
        )
        rows.append(row_of(report, subject, cells))
    header = (
        "model",
        "calibration error",
        "reject threshold",
        "answered",
        "right of these",
        "only Keras right",
        "only this right",
    )
    note = (
        "Calibration error: how far a score is from the share of right answers with such a score, on average. "
        "Answers below the reject threshold count as none of the labels. The last columns count pictures."
    )
    return without_empty_columns(Table(header, tuple(rows), note)) if rows else None


def per_label_table(report: Report) -> Table | None:
    """Recall by label: those that changed most against Keras first; without Keras, the lowest first."""
    shown = _recall_subjects(report)
    recalls = {subject.name: {item.label: item for item in figures.accuracy.per_label} for subject, figures in shown}
    labels = list(dict.fromkeys(label for by_label in recalls.values() for label in by_label))
    if not labels:
        return None
    reference = next((subject.name for subject, _ in shown if is_keras(subject)), None)
    ranked = sorted(labels, key=lambda label: _badness(label, recalls, reference), reverse=True)[:MOST_LABELS]
    rows = [
        Row((Cell(label), _total(label, recalls), *(_recall(by_label.get(label)) for by_label in recalls.values())))
        for label in ranked
    ]
    order = "Labels that lost most against Keras first." if reference else "Lowest recall first."
    hidden = len(labels) - len(ranked)
    more = f" {counted(hidden, 'more label')} in report.json." if hidden else ""
    note = f"Recall: of the pictures with the label, the share that is answered with it. {order}{more}"
    names = ("Keras" if name == reference else name for name in recalls)
    return Table(("label", "pictures", *names), tuple(rows), note)


def moved_table(report: Report) -> Table | None:
    """Which answers changed into which, most frequent first; None where none changed or there is no Keras."""
    moved = [(subject, item) for subject, figures in measured(report) for item in _moved(figures)]
    moved.sort(key=lambda pair: -pair[1].count)
    flipped = sum(
        figures.against_keras.agreement.total - figures.against_keras.agreement.hits
        for _, figures in measured(report)
        if figures.against_keras
    )
    rows = [
        row_of(report, subject, (Cell(item.label), Cell(item.keras_answer), Cell(item.answer), Cell(str(item.count))))
        for subject, item in moved[:MOST_MOVED]
    ]
    hidden = flipped - sum(item.count for _, item in moved[:MOST_MOVED])
    more = f" {counted(hidden, 'more changed answer')} of rarer kinds." if hidden > 0 else ""
    note = f"Pictures to which a model gives another answer than Keras.{more}"
    header = ("model", "true label", "Keras answers", "it answers", "pictures")
    return Table(header, tuple(rows), note, text_columns=(0, 1, 2, 3)) if rows else None


def _moved(figures: Performance) -> tuple[Moved, ...]:
    return figures.against_keras.moved if figures.against_keras else ()


def _recall_subjects(report: Report) -> list[tuple[SubjectResult, Performance]]:
    """The artefacts, after one Keras: its ways of being called do not differ in their answers."""
    keras = [pair for pair in measured(report) if is_keras(pair[0])]
    return keras[:1] + [pair for pair in measured(report) if not is_keras(pair[0])]


def _badness(label: str, recalls: Mapping[str, Mapping[str, LabelShare]], reference: str | None) -> tuple[float, float]:
    """Largest loss against Keras, then what the lowest recall lacks to 1."""
    found = {name: by_label[label].share.fraction for name, by_label in recalls.items() if label in by_label}
    lowest = 1 - min(found.values())
    if reference is None or reference not in found:
        return 0.0, lowest
    return max(found[reference] - value for value in found.values()), lowest


def _recall(item: LabelShare | None) -> Cell:
    return NOTHING if item is None else Cell(percent(item.share.fraction), percent_range(item.share))


def _total(label: str, recalls: Mapping[str, Mapping[str, LabelShare]]) -> Cell:
    return Cell(str(next(by_label[label].share.total for by_label in recalls.values() if label in by_label)))
