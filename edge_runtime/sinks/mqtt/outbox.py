"""What waits to be sent: of each retained topic only the newest, of events the last few."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

EVENTS = 64


@dataclass(frozen=True)
class Message:
    """A topic and what is published there; a retained one is kept by the broker for those who come later."""

    topic: str
    payload: bytes
    retain: bool


@dataclass
class _Kept:
    make: Callable[[], bytes]
    retain: bool
    due_s: float | None
    sent_s: float = -math.inf


class Outbox:
    """Filled by the camera's thread, emptied by the network's; all times are by `time.monotonic`, in seconds.

    Its size has a bound: a topic holds one payload, made when it is sent, and of events the oldest is dropped.
    """

    def __init__(self, events: int = EVENTS) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}
        self._events: deque[Message] = deque()
        self._capacity = events
        self.dropped = 0

    def keep(self, topic: str, make: Callable[[], bytes], *, retain: bool = True) -> None:
        """Set what a topic says, and that it is due; the order of first calls is the order of sending."""
        with self._lock:
            known = self._kept.get(topic)
            if known:
                known.make, known.due_s = make, 0.0
            else:
                self._kept[topic] = _Kept(make, retain, 0.0)

    def touch(self, topic: str, gap_s: float) -> None:
        """A kept topic is to be sent again, ``gap_s`` seconds after the last time at the earliest."""
        with self._lock:
            kept = self._kept[topic]
            due_s = kept.sent_s + gap_s
            kept.due_s = due_s if kept.due_s is None else min(kept.due_s, due_s)

    def again(self) -> None:
        """Send all retained topics once more, since the broker may have forgotten them."""
        with self._lock:
            for kept in self._kept.values():
                kept.due_s = 0.0 if kept.retain else kept.due_s

    def tell(self, message: Message) -> None:
        """Add an event."""
        with self._lock:
            if len(self._events) == self._capacity:
                self._events.popleft()
                self.dropped += 1
            self._events.append(message)

    def give_back(self, messages: Iterable[Message]) -> None:
        """Take back events that were not acknowledged, oldest first; retained ones are sent again anyway."""
        events = [message for message in messages if not message.retain]
        with self._lock:
            for message in reversed(events):
                if message.topic in self._kept:
                    continue
                if len(self._events) == self._capacity:
                    self.dropped += 1
                else:
                    self._events.appendleft(message)

    def take(self, now_s: float) -> Message | None:
        """The next message that is due."""
        with self._lock:
            due = (item for item in self._kept.items() if item[1].due_s is not None and item[1].due_s <= now_s)
            topic, kept = next(due, (None, None))
            if topic is None or kept is None:
                return self._events.popleft() if self._events else None
            kept.due_s, kept.sent_s = None, now_s
            make = kept.make
        return Message(topic, make(), kept.retain)

    def wait_s(self, now_s: float) -> float:
        """Seconds until something is due; 0 where something is, infinite where nothing waits."""
        with self._lock:
            if self._events:
                return 0.0
            due = [kept.due_s for kept in self._kept.values() if kept.due_s is not None]
        return max(0.0, min(due) - now_s) if due else math.inf

    def abandon(self) -> None:
        """Nothing will be sent any more: what waits counts as dropped."""
        with self._lock:
            self.dropped += len(self._events)
            self._events.clear()
