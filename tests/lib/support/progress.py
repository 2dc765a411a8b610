"""Progress bars that remember what they were shown."""

import collections
import contextlib
from contextlib import AbstractContextManager

from edge_runtime.progress import Progress


class Bars:
    """An `edge_runtime.progress.ProgressBars`; ``totals`` and ``counts`` are by label, in the order of opening."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.counts: collections.Counter[str] = collections.Counter()

    def __call__(self, label: str, total: int) -> AbstractContextManager[Progress]:
        assert label not in self.totals
        self.totals[label] = total
        return contextlib.nullcontext(lambda count: self.counts.update({label: count}))
