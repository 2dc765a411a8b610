"""Contents of the peers report: frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.peers.plan import NotMeasured
from benchmarks.statistics import Ratio, Share

SCHEMA_VERSION = 1
JSON_FILE, MARKDOWN_FILE = "peers.json", "peers.md"


@dataclass(frozen=True)
class PeerRow:
    """One tool with one model file. Times are medians over rounds of the median over images of a round.

    Attributes:
        name: Unique among the rows.
        tool: Such as ``MediaPipe ImageClassifier``.
        what: The model: a variant of the bundle, ``model.keras``, or the stated equivalent.
        environment: Its virtual environment; ``edgekit`` is our own.
        runtime: Runtime and version.
        threads: Threads inside one inference.
        model_facts: What is known of the model: ``parameters`` (millions), ``gflops`` (two per multiply-add).
        answered: Images with an answer in every round.
        images: Images that it was given.
        is_same_model: Whether its answers can be right.
        accuracy: Of all images; one without an answer is wrong. None for an equivalent with random weights.
        agreement: Share of images with the answer of our row ``beside``; None likewise, and for our own rows.
        is_steady: Whether it gave the same answers in every round.
        total_ms: From file to label; None where nothing was answered.
        inference_ms: Inference alone; None where the tool does not show it.
        beside: Our row that it is compared with, or empty.
        times_ours: How many times as long from file to label as ``beside``, paired by round; None for our own rows.
        inference_times_ours: The same of inference alone, or None.
        cpu_ms: Processor time an image.
        cold_start_s: From before the process until its first answer.
        peak_bytes: Largest resident memory.
        pictures_per_s: Images divided by the seconds of the whole process, start and warm-up included.
        refusals: Why images were not answered, and how many for each reason.
        awkward: What became of each awkward file: ``answered``, or why not.
    """

    name: str
    tool: str
    what: str
    environment: str
    runtime: str
    threads: str
    model_facts: dict[str, float]
    answered: int
    pictures: int
    is_same_model: bool
    accuracy: Share | None
    agreement: Share | None
    is_steady: bool
    total_ms: float | None
    inference_ms: float | None
    beside: str
    times_ours: Ratio | None
    inference_times_ours: Ratio | None
    cpu_ms: float
    cold_start_s: float | None
    peak_bytes: int
    pictures_per_s: float
    refusals: dict[str, int]
    awkward: dict[str, str]


@dataclass(frozen=True)
class PeersReport:
    """A comparison.

    Attributes:
        schema_version: `SCHEMA_VERSION`.
        created_at: UTC, ISO 8601.
        command: As typed.
        machine: See `benchmarks.machine.MachineRecord`.
        bundle: As the user said it.
        model_name: Of the bundle.
        labels: How many.
        input_size: Such as ``160x160``, width by height.
        source: Where the images come from, as the user said it.
        part: Which part of them.
        images: How many.
        rounds: How often each tool was asked, each time in a fresh process.
        seed: Of the order and of the drawn images.
        load_before: Load average of the minute before.
        load_after: Load average of the last minute.
        rows: The tools, ours first.
        not_measured: What could not be measured, and why.
    """

    schema_version: int
    created_at: str
    command: str
    machine: Any
    bundle: str
    model_name: str
    labels: int
    input_size: str
    source: str
    part: str
    pictures: int
    rounds: int
    seed: int
    load_before: float
    load_after: float
    rows: tuple[PeerRow, ...]
    not_measured: tuple[NotMeasured, ...]
