"""Publish results as MQTT topics: retained state, and events sent once.

    PREFIX/NAME/availability   online | offline, retained; offline is also the last will
    PREFIX/NAME/source         connected | stalled | reconnecting | ended, retained
    PREFIX/NAME/state          JSON, retained: the label decided on, its score, the last answer, rates
    PREFIX/NAME/event          JSON, for each new decision
    PREFIX/NAME/frame          JPEG, if enabled

A camera gives 30 results a second, so the state is sent when its label or source changes, else once per interval.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from edge_runtime.results import Classified, Result, SourceState, StateChange
from edge_runtime.sinks.base import MonitoredSink, capture_time, encode_jpeg
from edge_runtime.sinks.mqtt.connection import Message, MqttConnection, Outbox
from edge_runtime.sinks.mqtt.home_assistant import EXPIRE_AFTER_S, Device, clean, discovery_payload, discovery_topic
from edge_runtime.sinks.mqtt.options import MqttOptions, slug, tls_context

if TYPE_CHECKING:
    from edge_runtime.pipeline.health import Health
    from edge_runtime.preprocess import ImageU8


_ONLINE, _OFFLINE = b"online", b"offline"
_CHANGE_GAP_S = 0.1
_FRAME_GAP_S = 1.0
_FRAME_WIDTH = 640
_INTERVALS_BEFORE_EXPIRY = 4


class MqttSink(MonitoredSink):
    """A camera's topics on a broker, published by a separate thread, so that no broker delays the camera.

    Args:
        options: Broker and topics; see `edge_runtime.sinks.mqtt.options.parse_mqtt_url`.
        name: Name of this camera, unique on the broker and stable over restarts: part of topics and identifiers.
        labels: All labels of the model, in output order.
        health: State of the run, for the frame rate, or None.
        model: Display name of the model, or None.

    Raises:
        UsageError: The certificates cannot be used.
    """

    def __init__(
        self,
        options: MqttOptions,
        *,
        name: str,
        labels: Sequence[str],
        health: Health | None = None,
        model: str | None = None,
    ) -> None:
        context = tls_context(options)
        self.name, self.dropped = "mqtt", 0
        self.problem: str | None = f"{options.shown}: not connected yet"
        self._options, self._health, self._closed = options, health, False
        self._source: SourceState | None = None
        self._last: Classified | None = None
        self._frame_at_s = -math.inf
        part = slug(name)
        self._topic = f"{options.prefix}/{part}"
        self._outbox = Outbox()
        if options.discovery_prefix:
            expire_after_s = max(EXPIRE_AFTER_S, round(_INTERVALS_BEFORE_EXPIRY * options.interval_s))
            device = Device(
                f"edgekit_{part}", name, self._topic, labels, model, health is not None, options.frames, expire_after_s
            )
            description = discovery_payload(device)
            self._outbox.keep(discovery_topic(options.discovery_prefix, device), lambda: description)
        self._outbox.keep(f"{self._topic}/availability", lambda: _ONLINE)
        self._outbox.keep(f"{self._topic}/state", self._state)
        will = Message(f"{self._topic}/availability", _OFFLINE, retain=True)
        self._connection = MqttConnection(options, context, f"edgekit-{part}", self._outbox, will, self._set_problem)

    def write(self, result: Result, image_hwc_rgb_u8: ImageU8 | None = None) -> None:
        """Queue a result for the thread, and return at once."""
        if self._closed:
            return
        if isinstance(result, StateChange):
            self._source = result.state
            word = result.state.value.encode()
            self._outbox.keep(f"{self._topic}/source", lambda: word)
            self._changed()
        elif isinstance(result, Classified):
            self._note_result(result, image_hwc_rgb_u8)
        self.dropped = self._outbox.dropped

    def close(self) -> None:
        """Send what is queued and ``offline``, within a few seconds; calling it again does nothing."""
        if self._closed:
            return
        self._closed = True
        if self._last or self._source:
            self._outbox.touch(f"{self._topic}/state", 0.0)
        self._outbox.keep(f"{self._topic}/availability", lambda: _OFFLINE)
        self._connection.close()
        self.dropped = self._outbox.dropped

    def _note_result(self, result: Classified, image_hwc_rgb_u8: ImageU8 | None) -> None:
        before, self._last = self._last, result
        event = result.decision is not None and result.decision.event and result.decision.label is not None
        if event:
            decided = _decided(result)
            frame = {} if result.frame is None else {"frame": result.frame.number}
            record = {"event_type": decided["label"], **decided, **frame, "at": round(capture_time(result), 3)}
            self._outbox.add_event(Message(f"{self._topic}/event", _encode(record), retain=False))
        now_s = time.monotonic()
        frame_due = event or now_s - self._frame_at_s >= max(_FRAME_GAP_S, self._options.interval_s)
        if self._options.frames and image_hwc_rgb_u8 is not None and frame_due:
            self._frame_at_s, image = now_s, image_hwc_rgb_u8.copy()
            self._outbox.keep(f"{self._topic}/frame", lambda: _jpeg(image), retain=False)
        if event or before is None or _label(before) != _label(result):
            self._changed()
        else:
            self._outbox.touch(f"{self._topic}/state", self._options.interval_s)

    def _changed(self) -> None:
        self._outbox.touch(f"{self._topic}/state", _CHANGE_GAP_S)
        self._connection.wake()

    def _state(self) -> bytes:
        last, source = self._last, self._source
        # All keys are always present: Home Assistant's templates log an error for a missing one.
        state: dict[str, Any] = dict.fromkeys(("label", "score", "answer", "latency_ms", "at"))
        if last:
            answer = {"label": clean(last.top[0].label), "score": _number(last.top[0].score)}
            state = {
                **_decided(last),
                "answer": answer,
                "latency_ms": _number(last.latency_ms.total, 1),
                "at": round(capture_time(last), 3),
            }
        if self._health:
            state["frames_per_second"] = _number(self._health.snapshot().frames_per_second, 1)
        return _encode({**state, "source": source.value if source else None})

    def _set_problem(self, problem: str | None) -> None:
        self.problem = problem


def _label(result: Classified) -> str | None:
    return result.decision.label if result.decision else result.top[0].label


def _decided(result: Classified) -> dict[str, Any]:
    label = _label(result)
    score = result.decision.score if result.decision else result.top[0].score
    return {"label": None if label is None else clean(label), "score": _number(score)}


def _number(value: float, digits: int = 4) -> float | None:
    # JSON has no NaN.
    return round(value, digits) if math.isfinite(value) else None


def _encode(record: dict[str, Any]) -> bytes:
    return json.dumps(record, allow_nan=False).encode()


def _jpeg(image_hwc_rgb_u8: ImageU8) -> bytes:
    import cv2

    height, width = image_hwc_rgb_u8.shape[:2]
    if width <= _FRAME_WIDTH:
        return encode_jpeg(image_hwc_rgb_u8)
    size_wh = (_FRAME_WIDTH, max(1, round(height * _FRAME_WIDTH / width)))
    return encode_jpeg(cast("ImageU8", cv2.resize(image_hwc_rgb_u8, size_wh, interpolation=cv2.INTER_AREA)))
