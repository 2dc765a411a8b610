"""Render the state of a run as JSON, and its metrics in the Prometheus text format."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from edge_runtime.pipeline.health import Snapshot
from edge_runtime.platform.board import read_text, temperature_c, throttled
from edge_runtime.results import Classified, SourceState, to_record
from edge_runtime.text import escape

STALE_AFTER_S = 10.0
AGE_QUANTILES = (0.5, 0.9, 0.99)
_BOARD_INTERVAL_S = 5.0
_STATM = Path("/proc/self/statm")


@dataclass(frozen=True)
class BoardReading:
    """Temperature of the processor in degrees Celsius or None, and reasons of throttling."""

    temperature_c: float | None
    throttled: tuple[str, ...]


class Board:
    """Temperature and throttling, read at most every five seconds outside the event loop, as a program may be run."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._reading = BoardReading(None, ())
        self._next_s = 0.0

    async def reading(self) -> BoardReading:
        """Return the newest reading."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._next_s:
            self._next_s = loop.time() + _BOARD_INTERVAL_S
            work = self._executor, lambda: BoardReading(temperature_c(), throttled())
            self._reading = await loop.run_in_executor(*work)
        return self._reading


def problem_of(snapshot: Snapshot) -> str | None:
    """Return the reason why no fresh results arrive, without private details; None if they do."""
    age_s = snapshot.last_answer_age_s
    if snapshot.state is not None and snapshot.state is not SourceState.CONNECTED:
        return f"the source is {snapshot.state.value}"
    if age_s is None:
        return "no answer yet"
    if age_s > STALE_AFTER_S:
        return f"the last answer is {age_s:.0f} s old"
    return None if snapshot.healthy else "the source has not reported a connection"


def quantile(values: Sequence[float], share: float) -> float | None:
    """Return the smallest value that ``share`` (0..1) of the sorted values do not exceed; None without values."""
    return values[min(len(values) - 1, math.ceil(share * len(values)) - 1)] if values else None


def resident_bytes() -> int | None:
    """Return the resident memory of this process in bytes, or None if unknown."""
    fields = (read_text(_STATM) or "").split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 and fields[1].isdecimal() else None


def state_json(
    name: str, labels: Sequence[str], snapshot: Snapshot, events: list[dict[str, Any]], board: BoardReading
) -> bytes:
    """Render the state of the run as one line of ASCII JSON.

    Args:
        name: Display name of the camera.
        labels: All labels of the model; predictions of all labels keep this order, so that bars stay in place.
        snapshot: State of the run.
        events: Last events, newest first.
        board: Temperature and throttling.
    """
    latency = snapshot.latency_ms
    stages = {"decode": latency.decode, "preprocess": latency.preprocess, "invoke": latency.invoke} if latency else {}
    state = {
        "name": name,
        "trouble": problem_of(snapshot),
        "state": snapshot.state.value if snapshot.state else None,
        "reason": snapshot.state_reason,
        "uptime_s": round(snapshot.uptime_s, 1),
        "answered": snapshot.answered,
        "skipped": snapshot.skipped,
        "event_count": snapshot.events,
        "reconnects": snapshot.reconnects,
        "frames_per_second": round(snapshot.frames_per_second, 2),
        "last_answer_age_s": _rounded(snapshot.last_answer_age_s),
        "age_ms": {f"p{share * 100:.0f}": _rounded(quantile(snapshot.age_ms, share)) for share in AGE_QUANTILES},
        "latency_ms": {stage: _rounded(value) for stage, value in stages.items()},
        "answer": _answer(snapshot.last, labels) if snapshot.last else None,
        "events": events,
        "sinks": [{"name": sink.name, "dropped": sink.dropped, "problem": sink.problem} for sink in snapshot.sinks],
        "temperature_c": _rounded(board.temperature_c),
        "throttled": list(board.throttled),
        "resident_bytes": resident_bytes(),
    }
    return json.dumps(_presentable(state), separators=(",", ":"), allow_nan=False).encode()


def _answer(result: Classified, labels: Sequence[str]) -> dict[str, Any]:
    record = to_record(result)
    if len(record["top"]) == len(labels):
        rank = {label: index for index, label in enumerate(labels)}
        record["top"] = sorted(record["top"], key=lambda item: rank.get(item["label"], len(labels)))
    return record


def _presentable(value: Any) -> Any:
    """Escape control and direction characters in a value, and replace NaN and infinity by None."""
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _presentable(item) for key, item in value.items()}
    return [_presentable(item) for item in value] if isinstance(value, list) else value


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)


def metrics_text(snapshot: Snapshot, board: BoardReading, streams: int, accept: str) -> tuple[bytes, str]:
    """Render the metrics in the format of an ``Accept`` header, and return them with their content type.

    Args:
        snapshot: State of the run.
        board: Temperature and throttling.
        streams: Number of open streams and waits for an image.
        accept: Content of the ``Accept`` header; empty gives text 0.0.4.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once([*_rates(snapshot), *_parts(snapshot), *_process(board, streams)]))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Once(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def _rates(snapshot: Snapshot) -> Iterator[Metric]:
    yield CounterMetricFamily("edgekit_frames_answered", "Classified frames.", snapshot.answered)
    yield CounterMetricFamily("edgekit_frames_skipped", "Frames replaced by a newer one.", snapshot.skipped)
    yield CounterMetricFamily("edgekit_events", "New decisions.", snapshot.events)
    yield CounterMetricFamily("edgekit_reconnects", "Reconnections of the source.", snapshot.reconnects)
    rate = snapshot.frames_per_second
    yield GaugeMetricFamily("edgekit_frames_per_second", "Answers per second over the last seconds.", rate)
    if snapshot.latency_ms:
        stages = GaugeMetricFamily("edgekit_latency_seconds", "Stages of the last answer.", labels=["stage"])
        for stage in ("decode", "preprocess", "invoke"):
            stages.add_metric([stage], getattr(snapshot.latency_ms, stage) / 1e3)
        yield stages
    if snapshot.age_ms:
        # Only a summary may have the label quantile.
        ages = Metric("edgekit_frame_age_seconds", "Age of recent answers.", "summary")
        for share in AGE_QUANTILES:
            age_s = (quantile(snapshot.age_ms, share) or 0.0) / 1e3
            ages.add_sample("edgekit_frame_age_seconds", {"quantile": str(share)}, age_s)
        yield ages
    if snapshot.last_answer_age_s is not None:
        since_s = snapshot.last_answer_age_s
        yield GaugeMetricFamily("edgekit_last_answer_age_seconds", "Time since the last answer.", since_s)
    yield GaugeMetricFamily("edgekit_uptime_seconds", "Time since the start of the run.", snapshot.uptime_s)


def _parts(snapshot: Snapshot) -> Iterator[Metric]:
    yield GaugeMetricFamily("edgekit_healthy", "1 while fresh results arrive.", float(problem_of(snapshot) is None))
    states = GaugeMetricFamily("edgekit_source_state", "1 for the current state of the source.", labels=["state"])
    for state in SourceState:
        states.add_metric([state.value], float(snapshot.state is state))
    yield states
    dropped = CounterMetricFamily("edgekit_sink_dropped", "Results that a sink has lost.", labels=["sink"])
    problem = GaugeMetricFamily("edgekit_sink_problem", "1 while a sink has a problem.", labels=["sink"])
    # Sinks of one name are summed: the format does not allow duplicate lines.
    for name in sorted({sink.name for sink in snapshot.sinks}):
        same = [sink for sink in snapshot.sinks if sink.name == name]
        dropped.add_metric([escape(name)], sum(sink.dropped for sink in same))
        problem.add_metric([escape(name)], float(any(sink.problem is not None for sink in same)))
    yield dropped
    yield problem


def _process(board: BoardReading, streams: int) -> Iterator[Metric]:
    if board.temperature_c is not None:
        yield GaugeMetricFamily("edgekit_temperature_celsius", "Temperature of the processor.", board.temperature_c)
    now = any(reason.endswith(" now") for reason in board.throttled)
    yield GaugeMetricFamily("edgekit_throttled", "1 while the board is throttled.", float(now))
    held = resident_bytes()
    if held is not None:
        yield GaugeMetricFamily("edgekit_resident_memory_bytes", "Resident memory of this process.", held)
    yield GaugeMetricFamily("edgekit_web_streams", "Open streams and waits for an image.", streams)
