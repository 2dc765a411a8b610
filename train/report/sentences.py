"""What the report says in words: which epoch was kept, what fine-tuning was worth, and what chance would do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edge_runtime.datasets.samples import Split
from train.fitting.history import best_epoch
from train.fitting.phases import FINETUNE, HEAD, WHOLE, phases_of

if TYPE_CHECKING:
    from train.finished import Run


def kept_epoch(run: Run) -> str:
    """Name the kept epoch, such as ``head, epoch 7``."""
    best = run.fitted.best
    return f"epoch {best.epoch}" if best.phase == WHOLE else f"{best.phase}, epoch {best.epoch}"


def sentences(run: Run) -> list[str]:
    """How training went, one thing a sentence."""
    best = run.fitted.best
    kept = (
        f"Kept: {kept_epoch(run)} of {len(run.fitted.history)}, the best on validation "
        f"({percent(best.val_accuracy)} right)."
    )
    return [kept, *_finetuning(run), *_untrained(run), *_stopped_early(run), *_chance(run)]


def percent(share: float) -> str:
    """A share as text, such as ``93.8 %``, with a space that does not break."""
    return f"{share * 100:.1f}\N{NO-BREAK SPACE}%"


def _finetuning(run: Run) -> list[str]:
    phases = {name: best_epoch([row for row in run.fitted.history if row.phase == name]) for name in (HEAD, FINETUNE)}
    head, finetuned = phases[HEAD], phases[FINETUNE]
    if head is None or finetuned is None:
        return []
    pair = f"{percent(finetuned.val_accuracy)} against {percent(head.val_accuracy)}"
    if head.val_accuracy == finetuned.val_accuracy:
        pair += f", loss {finetuned.val_loss:.3f} against {head.val_loss:.3f}"
    if run.fitted.best.phase == FINETUNE:
        return [f"Fine-tuning was better than the head alone on validation: {pair}."]
    return [f"Fine-tuning was not better than the head alone on validation ({pair}), so the head's weights were kept."]


def _untrained(run: Run) -> list[str]:
    loss, accuracy = run.fitted.before_training
    if not math.isfinite(accuracy):
        return []
    return [f"Before training, {percent(accuracy)} of the validation pictures were right (loss {loss:.3f})."]


def _stopped_early(run: Run) -> list[str]:
    found = []
    for phase in phases_of(run.recipe):
        done = sum(row.phase == phase.name for row in run.fitted.history)
        if 0 < done < phase.epochs:
            name = "Training" if phase.name == WHOLE else f"Phase {phase.name}"
            found.append(
                f"{name} stopped after {done} of {phase.epochs} epochs, {run.recipe.fit.patience} of them "
                "without a better one."
            )
    return found


def _chance(run: Run) -> list[str]:
    test = run.evaluation.scores[Split.TEST]
    largest = max(test.classes, key=lambda entry: entry.images)
    if not largest.images:
        return []
    share = percent(largest.images / test.images)
    return [f"Always answering “{largest.label}”, the largest class, would be right on {share} of the test pictures."]
