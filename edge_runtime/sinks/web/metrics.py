"""The run's figures in Prometheus' text format, from a registry of its own."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from edge_runtime.health import Snapshot
from edge_runtime.results import SourceState
from edge_runtime.sinks.text import escape
from edge_runtime.sinks.web.state import AGE_QUANTILES, BoardReading, quantile, resident_bytes, trouble


def metrics_text(snapshot: Snapshot, board: BoardReading, streams: int, accept: str) -> tuple[bytes, str]:
    """The metrics in the format that an ``Accept`` header prefers, and its content type.

    Args:
        snapshot: How the run is.
        board: Temperature and throttling.
        streams: How many streams and waits for a picture are open.
        accept: What the client asks for; empty gives text 0.0.4.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once([*_counts(snapshot), *_timing(snapshot), *_parts(snapshot), *_process(board, streams)]))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Once(Collector):
    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> list[Metric]:
        return self._metrics


def _counts(snapshot: Snapshot) -> Iterator[Metric]:
    yield CounterMetricFamily("edgekit_frames_answered", "Frames that were classified.", snapshot.answered)
    yield CounterMetricFamily("edgekit_frames_skipped", "Frames that a newer one replaced.", snapshot.skipped)
    yield CounterMetricFamily("edgekit_events", "Decisions that began something.", snapshot.events)
    yield CounterMetricFamily("edgekit_reconnects", "How often the source came back.", snapshot.reconnects)


def _timing(snapshot: Snapshot) -> Iterator[Metric]:
    rate = snapshot.frames_per_second
    yield GaugeMetricFamily("edgekit_frames_per_second", "Answers per second over the last seconds.", rate)
    if snapshot.latency_ms:
        stages = GaugeMetricFamily("edgekit_latency_seconds", "Stages of the last answer.", labels=["stage"])
        for stage in ("decode", "preprocess", "invoke"):
            stages.add_metric([stage], getattr(snapshot.latency_ms, stage) / 1e3)
        yield stages
    if snapshot.age_ms:
        ages = GaugeMetricFamily("edgekit_frame_age_seconds", "Age of recent answers.", labels=["quantile"])
        for share in AGE_QUANTILES:
            ages.add_metric([str(share)], (quantile(snapshot.age_ms, share) or 0.0) / 1e3)
        yield ages
    if snapshot.last_answer_age_s is not None:
        since_s = snapshot.last_answer_age_s
        yield GaugeMetricFamily("edgekit_last_answer_age_seconds", "Time since the last answer.", since_s)
    yield GaugeMetricFamily("edgekit_uptime_seconds", "Time since the run began.", snapshot.uptime_s)


def _parts(snapshot: Snapshot) -> Iterator[Metric]:
    yield GaugeMetricFamily("edgekit_healthy", "Whether fresh answers come.", float(trouble(snapshot) is None))
    states = GaugeMetricFamily("edgekit_source_state", "1 for the state that the source is in.", labels=["state"])
    for state in SourceState:
        states.add_metric([state.value], float(snapshot.state is state))
    yield states
    dropped = CounterMetricFamily("edgekit_sink_dropped", "Results that a sink could not pass on.", labels=["sink"])
    problem = GaugeMetricFamily("edgekit_sink_problem", "1 while a sink has a problem.", labels=["sink"])
    # Two sinks of one name count together: the format does not allow a line twice.
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
    yield GaugeMetricFamily("edgekit_throttled", "Whether the board runs slower than it could.", float(now))
    held = resident_bytes()
    if held is not None:
        yield GaugeMetricFamily("edgekit_resident_memory_bytes", "Memory that this process holds.", held)
    yield GaugeMetricFamily("edgekit_web_streams", "Streams and waits for a picture that are open.", streams)
