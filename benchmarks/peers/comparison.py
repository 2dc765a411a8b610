"""One comparison from the command line to the record."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.evaluation import Chosen, choose_pictures
from benchmarks.known_labels import check_labels_known
from benchmarks.machine import describe_machine
from benchmarks.peers.awkward import draw_awkward
from benchmarks.peers.measuring import Job, measure_peers
from benchmarks.peers.places import Places
from benchmarks.peers.plan import plan_peers
from benchmarks.peers.records import SCHEMA_VERSION, PeersReport
from benchmarks.peers.summary import summarize
from benchmarks.plan import BenchConfig, check_run
from benchmarks.settings import Settings
from edge_runtime.cli_support import progress_bar
from edge_runtime.contract import Manifest
from edge_runtime.datasets.raw_index import map_index_labels
from edge_runtime.datasets.samples import Sample
from edge_runtime.errors import EngineError
from edge_runtime.modelfile import read_bundle_manifest
from edge_runtime.strict import to_mapping


@dataclass(frozen=True)
class PeersConfig:
    """The command line of ``python -m benchmarks.peers``.

    Attributes:
        bundle: The bundle directory.
        keras: Run directory that it was made from, or None.
        data: SRC of labelled pictures, or None for the test split of ``keras``.
        pictures: At most so many.
        rounds: How often each tool is asked.
        threads: Threads inside one inference, where a tool lets its user choose.
        seed: Of the order and of the drawn pictures.
        timeout_s: Seconds after which a process is stopped.
        places: Where the virtual environments are.
        command: The command line as typed.
    """

    bundle: Path
    keras: Path | None
    data: str | None
    pictures: int
    rounds: int
    threads: int
    seed: int
    timeout_s: float
    places: Places
    command: str


def compare(config: PeersConfig) -> PeersReport:
    """Measure all tools.

    Raises:
        EdgeKitError: The bundle, the run or the pictures cannot be used, or not one tool could be measured.
    """
    manifest = read_bundle_manifest(config.bundle)
    if config.keras is not None:
        check_run(config.keras, manifest)
    chosen, samples = _pictures(config, manifest)
    peers, missing = plan_peers(config.bundle, manifest, config.keras, config.threads, config.places)
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="edge-peers-") as name:
        job = _job(config, manifest, samples, Path(name))
        with progress_bar("asking every tool", len(peers) * (config.rounds + 1)) as progress:
            seen = measure_peers(peers, job, config.places, progress)
    rows, failed = summarize(seen, [sample.label for sample in samples], config.seed)
    if not rows:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in failed)
        raise EngineError(f"not one tool could be measured with {config.bundle} ({reasons})")
    return PeersReport(
        schema_version=SCHEMA_VERSION,
        created_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        command=config.command,
        machine=to_mapping(describe_machine()),
        bundle=str(config.bundle),
        model_name=manifest.model_name,
        labels=len(manifest.labels),
        input_size=f"{manifest.input.width}x{manifest.input.height}",
        source=chosen.source,
        part=chosen.part,
        pictures=len(samples),
        rounds=config.rounds,
        seed=config.seed,
        load_before=load_before,
        load_after=os.getloadavg()[0],
        rows=tuple(rows),
        not_measured=(*missing, *failed),
    )


def _pictures(config: PeersConfig, manifest: Manifest) -> tuple[Chosen, tuple[Sample, ...]]:
    settings = Settings(limit=config.pictures, seed=config.seed)
    bench = BenchConfig(config.bundle, config.data, config.keras, Path(), False, config.command, settings)
    chosen = choose_pictures(bench)
    samples = map_index_labels(chosen.samples, manifest.labels)
    check_labels_known(chosen.source, samples, manifest.labels)
    return chosen, samples


def _job(config: PeersConfig, manifest: Manifest, samples: tuple[Sample, ...], scratch: Path) -> Job:
    awkward = scratch / "awkward"
    awkward.mkdir()
    return Job(
        pictures=tuple(sample.path.resolve() for sample in samples),
        awkward=draw_awkward(awkward),
        labels=manifest.labels,
        size_wh=(manifest.input.width, manifest.input.height),
        threshold=manifest.output.decision_threshold,
        threads=config.threads,
        rounds=config.rounds,
        seed=config.seed,
        timeout_s=config.timeout_s,
        scratch=scratch,
    )
