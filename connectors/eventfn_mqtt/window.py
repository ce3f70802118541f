"""What the broker has sent and we have not acknowledged: what is to be read next, and what may be acknowledged.

MQTT has no "not now": the broker sends a message again only to a new connection. So what is to be retried waits here,
not acknowledged, and the order of its topic waits with it. Acknowledgements go out in the order in which the messages
came (MQTT 5.0, chapter 4.6): one that is done waits for those before it. PURE.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Iterable

import msgspec

from eventfn_mqtt.packets import Publish


class Arrived(msgspec.Struct, eq=False):
    sequence: int
    message: Publish
    arrived_ms: int
    receives: int = 0
    failures: int = 0
    not_before: float = 0.0
    done: bool = False


class Window:
    def __init__(self) -> None:
        self._next = 0
        self._new: deque[Arrived] = deque()
        self._again: list[Arrived] = []  # in their order; of one topic all before what is new
        self._unacknowledged: deque[Arrived] = deque()

    @property
    def unread(self) -> int:
        return len(self._new) + len(self._again)

    def arrive(self, message: Publish, arrived_ms: int) -> None:
        arrived = Arrived(self._next, message, arrived_ms)
        self._next += 1
        self._new.append(arrived)
        if message.qos:
            self._unacknowledged.append(arrived)

    def take(self, limit: int, now: float) -> list[Arrived]:
        """Up to `limit` messages; of each topic in its order, and none before one that is to be retried later."""
        held: set[str] = set()
        taken: list[Arrived] = []
        again, self._again = self._again, []
        for arrived in again:
            topic = arrived.message.topic
            if arrived.not_before > now:
                held.add(topic)
            if topic in held or len(taken) == limit:
                held.add(topic)
                self._again.append(arrived)
            else:
                taken.append(arrived)
        skipped: list[Arrived] = []
        while self._new and len(taken) < limit:
            arrived = self._new.popleft()
            (skipped if arrived.message.topic in held else taken).append(arrived)
        self._new.extendleft(reversed(skipped))
        for arrived in taken:
            arrived.receives += 1
        return taken

    def due(self) -> float | None:
        """When something that is to be retried can be read."""
        return min((arrived.not_before for arrived in self._again), default=None)

    def retry(self, arrived: Arrived, not_before: float) -> None:
        arrived.not_before = not_before
        bisect.insort(self._again, arrived, key=lambda each: each.sequence)

    def finish(self, finished: Iterable[Arrived]) -> list[Publish]:
        """What is to be acknowledged now, in this order."""
        for arrived in finished:
            arrived.done = True
        acknowledged: list[Publish] = []
        while self._unacknowledged and self._unacknowledged[0].done:
            acknowledged.append(self._unacknowledged.popleft().message)
        return acknowledged
