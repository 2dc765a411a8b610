"""Whether a model knows the labels of the pictures that it is to be measured on, and what to do where it does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from edge_runtime.datasets.samples import Sample
from edge_runtime.errors import DatasetError
from edge_runtime.labels import look_alike_key, shorten

_SHOWN = 5
_SHOWN_CHARACTERS = 60


def check_labels_known(source: str, samples: Sequence[Sample], labels: Sequence[str]) -> None:
    """Check that the model knows the label of every picture.

    A picture of an unknown label is no mistake of the model, and to leave it out in silence would be none of ours to
    decide: the user is told which pictures, how many, and what may be meant.

    Args:
        source: As messages call it.
        samples: The pictures, class indices already replaced by names.
        labels: Of the model, in output order.

    Raises:
        DatasetError: A label that the model does not know.
    """
    known = set(labels)
    unknown = Counter(sample.label for sample in samples if sample.label not in known)
    if not unknown:
        return
    named = [f"{_shown(label)} ({count})" for label, count in sorted(unknown.items())]
    raise DatasetError(
        f"{source}: {sum(unknown.values())} of {len(samples)} pictures have a label that the model does not know: "
        f"{_few(named)}; it knows {_few([_shown(label) for label in labels])}; {_remedy(unknown, labels)}"
    )


def _remedy(unknown: Counter[str], labels: Sequence[str]) -> str:
    by_key = {_key(label): label for label in labels}
    alike = [(label, by_key[_key(label)]) for label in sorted(unknown) if _key(label) in by_key]
    if alike:
        pairs = [f"{_shown(label)} to {_shown(other)}" for label, other in alike]
        return f"rename {_few(pairs)}"
    if all(label.isascii() and label.isdigit() for label in unknown):
        return f"class indices go from 0 to {len(labels) - 1}, without leading zeros"
    return "rename these classes as the model calls them, or leave them out of the data"


def _key(label: str) -> str:
    """Equal for labels that a person may take for one another: case, encoding, spaces, underscores and hyphens."""
    return " ".join(look_alike_key(label).replace("_", " ").replace("-", " ").split())


def _shown(label: str) -> str:
    return shorten(ascii(label) if not label.isprintable() else repr(label), _SHOWN_CHARACTERS)


def _few(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more
