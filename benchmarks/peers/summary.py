"""From what was seen of each peer to its row."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence

from benchmarks.peers.measuring import Round, Seen
from benchmarks.peers.plan import NotMeasured
from benchmarks.peers.records import PeerRow
from benchmarks.statistics import Ratio, Share, ratio_of, share_of

_REASONS = 5


def summarize(seen: Sequence[Seen], truth: Sequence[str], seed: int) -> tuple[list[PeerRow], list[NotMeasured]]:
    """Rows of the peers that were measured in every round, and the reason of each other one.

    Args:
        seen: In the order of the table.
        truth: Label of each picture.
        seed: Of the bootstrap.
    """
    by_name = {one.peer.name: one for one in seen if one.error is None and one.rounds}
    rows = [_row(one, by_name.get(one.peer.beside), truth, seed) for one in by_name.values()]
    failed = [NotMeasured(one.peer.name, one.error or "was not asked") for one in seen if one.peer.name not in by_name]
    return rows, failed


def _row(one: Seen, ours: Seen | None, truth: Sequence[str], seed: int) -> PeerRow:
    peer, rounds = one.peer, one.rounds
    answers = rounds[0].answers
    answered = sum(all(each.answers[index] is not None for each in rounds) for index in range(len(truth)))
    return PeerRow(
        name=peer.name,
        tool=peer.tool,
        what=peer.what,
        environment=peer.environment,
        runtime=one.runtime,
        threads=peer.threads,
        model_facts=one.facts,
        answered=answered,
        pictures=len(truth),
        is_same_model=peer.is_same_model,
        accuracy=_matching(answers, truth) if peer.is_same_model else None,
        agreement=_matching(answers, ours.rounds[0].answers) if peer.is_same_model and ours else None,
        is_steady=len({each.answers for each in rounds}) == 1,
        total_ms=_median([_p50(each.total_ms) for each in rounds]),
        inference_ms=_median([_p50(each.inference_ms) for each in rounds]),
        beside=peer.beside if ours else "",
        times_ours=_ratio([_p50(each.total_ms) for each in rounds], ours, "total_ms", seed),
        inference_times_ours=_ratio([_p50(each.inference_ms) for each in rounds], ours, "inference_ms", seed),
        cpu_ms=statistics.median(each.cpu_ms for each in rounds),
        cold_start_s=_median([each.cold_start_s for each in rounds]),
        peak_bytes=max(each.peak_bytes for each in rounds),
        pictures_per_s=statistics.median(len(truth) / each.wall_s for each in rounds),
        refusals=_refusals(rounds),
        awkward=one.awkward,
    )


def _matching(answers: Sequence[str | None], expected: Sequence[str | None]) -> Share:
    """One without an answer matches nothing."""
    hits = sum(answer is not None and answer == other for answer, other in zip(answers, expected, strict=True))
    return share_of(hits, len(answers))


def _ratio(own: Sequence[float | None], ours: Seen | None, field: str, seed: int) -> Ratio | None:
    """How many times as long as ours, over the rounds in which both were seen."""
    if ours is None:
        return None
    others = [_p50(getattr(each, field)) for each in ours.rounds]
    pairs = [(mine, other) for mine, other in zip(own, others, strict=False) if mine and other]
    return ratio_of([mine for mine, _ in pairs], [other for _, other in pairs], seed) if pairs else None


def _refusals(rounds: Sequence[Round]) -> dict[str, int]:
    return dict(Counter(rounds[0].errors.values()).most_common(_REASONS))


def _p50(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None


def _median(values: Sequence[float | None]) -> float | None:
    seen = [value for value in values if value is not None]
    return statistics.median(seen) if seen else None
