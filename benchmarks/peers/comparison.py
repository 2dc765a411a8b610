"""Compare the tools: choose images, measure, summarise."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmarks.evaluation import Chosen, check_labels_known, choose_images
from benchmarks.peers.measuring import Job, Seen, draw_awkward, measure_peers
from benchmarks.peers.plan import NotMeasured, PeersConfig, plan_peers
from benchmarks.peers.report import PeerRow, PeersReport, run_facts
from benchmarks.plan import BenchConfig, check_run
from benchmarks.settings import Settings
from benchmarks.statistics import Ratio, Share, ratio_of, share_of
from edge_runtime.contract import Manifest
from edge_runtime.errors import EngineError
from edge_runtime.model.bundle import read_bundle_manifest
from edge_runtime.platform.atomic import temporary_folder
from edge_runtime.progress import progress_bar
from edge_runtime.workstation.datasets.samples import Sample, map_index_labels

_REASONS = 5


def compare(config: PeersConfig) -> PeersReport:
    """Measure all tools.

    Raises:
        EdgeKitError: The bundle, the run or the images cannot be used, or no tool could be measured.
    """
    manifest = read_bundle_manifest(config.bundle)
    if config.keras is not None:
        check_run(config.keras, manifest)
    chosen, samples = _images(config, manifest)
    peers, missing = plan_peers(config.bundle, manifest, config.keras, config.threads, config.places)
    load_before = os.getloadavg()[0]
    with temporary_folder("peers") as scratch:
        images = tuple(sample.path.resolve() for sample in samples)
        job = Job(config, manifest, images, draw_awkward(scratch / "awkward"), scratch)
        with progress_bar("measuring every tool", len(peers) * (config.rounds + 1)) as progress:
            seen = measure_peers(peers, job, progress)
    rows, failed = summarize(seen, [sample.label for sample in samples], config.seed)
    if not rows:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in failed)
        raise EngineError(f"no tool could be measured with {config.bundle} ({reasons})")
    return PeersReport(
        **run_facts(config.command, load_before, [*missing, *failed]),
        bundle=str(config.bundle),
        model_name=manifest.model_name,
        labels=len(manifest.labels),
        input_size=f"{manifest.input.width}x{manifest.input.height}",
        source=chosen.source,
        part=chosen.part,
        pictures=len(samples),
        rounds=config.rounds,
        seed=config.seed,
        rows=tuple(rows),
    )


def _images(config: PeersConfig, manifest: Manifest) -> tuple[Chosen, tuple[Sample, ...]]:
    settings = Settings(limit=config.pictures, seed=config.seed)
    bench = BenchConfig(config.bundle, config.data, config.keras, Path(), False, config.command, settings)
    chosen = choose_images(bench)
    samples = map_index_labels(chosen.samples, manifest.labels)
    check_labels_known(chosen.source, samples, manifest.labels)
    return chosen, samples


def summarize(seen: Sequence[Seen], truth: Sequence[str], seed: int) -> tuple[list[PeerRow], list[NotMeasured]]:
    """Summarise the peers that were measured in every round, and list the reason of each other one.

    Args:
        seen: Results in the order of the table.
        truth: Label of each image.
        seed: Seed of the bootstrap.
    """
    by_name = {one.peer.name: one for one in seen if one.error is None and one.rounds}
    rows = [_row(one, by_name.get(one.peer.beside), truth, seed) for one in by_name.values()]
    failed = [NotMeasured(one.peer.name, one.error or "was not run") for one in seen if one.peer.name not in by_name]
    return rows, failed


def _row(one: Seen, ours: Seen | None, truth: Sequence[str], seed: int) -> PeerRow:
    peer, rounds = one.peer, one.rounds
    answers = rounds[0].answers
    totals, inferences = ([_median(getattr(each, name)) for each in rounds] for name in ("total_ms", "inference_ms"))
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
        total_ms=_median(totals),
        inference_ms=_median(inferences),
        beside=peer.beside if ours else "",
        times_ours=_ratio(totals, ours, "total_ms", seed),
        inference_times_ours=_ratio(inferences, ours, "inference_ms", seed),
        cpu_ms=statistics.median(each.cpu_ms for each in rounds),
        cold_start_s=_median([each.cold_start_s for each in rounds]),
        peak_bytes=max(each.peak_bytes for each in rounds),
        pictures_per_s=statistics.median(len(truth) / each.wall_s for each in rounds),
        refusals=dict(Counter(rounds[0].errors.values()).most_common(_REASONS)),
        awkward=one.awkward,
    )


def _matching(answers: Sequence[str | None], expected: Sequence[str | None]) -> Share:
    """Count equal answers; an image without an answer matches nothing."""
    hits = sum(answer is not None and answer == other for answer, other in zip(answers, expected, strict=True))
    return share_of(hits, len(answers))


def _ratio(own: Sequence[float | None], ours: Seen | None, field: str, seed: int) -> Ratio | None:
    """Compute the ratio to our time, over the rounds that both have."""
    if ours is None:
        return None
    others = [_median(getattr(each, field)) for each in ours.rounds]
    pairs = [(mine, other) for mine, other in zip(own, others, strict=False) if mine and other]
    return ratio_of([mine for mine, _ in pairs], [other for _, other in pairs], seed) if pairs else None


def _median(values: Sequence[float | None]) -> float | None:
    seen = [value for value in values if value is not None]
    return statistics.median(seen) if seen else None
