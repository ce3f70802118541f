"""Functions' logs written to a CloudWatch Logs elsewhere as well, where `[aws] endpoints.logs` names one.

A line is never worth an invocation: `write` takes it into memory and returns. What the server does not take waits, is
tried again with back-off, and is dropped and counted when there is more than may wait. The files of the node have every
line all the same.

Limits of a batch: PutLogEvents, CloudWatch Logs' API reference.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from eventfn.aws.clients import Clients, ServiceError
from eventfn.clock import Clock
from eventfn.errors import ConnectorError
from eventfn.observe.logs import LogStore
from eventfn.observe.metrics import Metrics

FLUSH_SECONDS = 1.0
_MOST_WAITING = 16_000_000  # bytes, of all functions together
_MOST_EVENTS = 10_000  # in a batch
_MOST_BYTES = 1_048_576
_LONGEST = 262_118  # bytes of one event's text
_EVENT_BYTES = 26  # that each event counts beside its text
_LONGEST_SPAN = 24 * 3_600_000  # ms between the first and the last event of a batch
_AT_ONCE = 8  # requests
_BACK_OFF = (1.0, 60.0)  # seconds: first, most
_KNOWN = 10_000  # streams that are known to be there

log = logging.getLogger(__name__)

_Event = tuple[int, str, int]  # timestamp in ms, text, bytes


class LogWriter:
    """A LogSink in front of the node's own. `group` says where a function logs to. `run` until it is cancelled."""

    def __init__(
        self, store: LogStore, clients: Clients, group: Callable[[str], str], metrics: Metrics, clock: Clock
    ) -> None:
        self._store = store
        self._clients = clients
        self._group = group
        self._metrics = metrics
        self._clock = clock
        self._waiting: dict[tuple[str, str], list[_Event]] = {}  # group and stream -> events
        self._size = 0  # bytes of all that waits
        self._made: dict[tuple[str, str], None] = {}
        self._failures = 0  # rounds in a row
        self._said = ""  # what was said of the latest failure

    def write(self, function: str, stream: str, timestamp_ms: int, message: str) -> None:
        self.write_all(function, stream, ((timestamp_ms, message),))

    def write_all(self, function: str, stream: str, messages: Sequence[tuple[int, str]]) -> None:
        self._store.write_all(function, stream, messages)
        events = [_event(timestamp, message) for timestamp, message in messages]
        size = sum(event[2] for event in events)
        if self._size + size > _MOST_WAITING:
            self._metrics.log_events_dropped += len(events)
            return
        self._size += size
        self._waiting.setdefault((self._group(function), stream), []).extend(events)

    async def run(self) -> None:
        while True:
            first, most = _BACK_OFF
            await self._clock.sleep(min(first * 2**self._failures, most) if self._failures else FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """One round over all that waits."""
        places = asyncio.Semaphore(_AT_ONCE)

        async def send(key: tuple[str, str]) -> bool:
            async with places:
                return await self._send(*key)

        sent = await asyncio.gather(*map(send, list(self._waiting)))
        self._failures = 0 if all(sent) else min(self._failures + 1, 10)

    async def close(self, deadline: float) -> None:
        """Writes what waits; gives up after `deadline` seconds."""
        try:
            async with asyncio.timeout(deadline):
                await self.flush()
        except TimeoutError:
            pass
        left = sum(map(len, self._waiting.values()))
        if left:
            self._metrics.log_events_dropped += left
            log.warning("CloudWatch Logs: %d log events were not taken; they are in the node's own files", left)
            self._waiting.clear()

    async def _send(self, group: str, stream: str) -> bool:
        """All that waits for a stream, batch by batch. False: it has to be tried again."""
        events = self._waiting.pop((group, stream))
        events.sort(key=lambda event: event[0])
        while events:
            batch = _batch(events)
            try:
                await self._make(group, stream)
                await self._put(group, stream, batch)
            except ServiceError as error:
                if error.code in ("InvalidParameterException", "InvalidParameter", "DataAlreadyAcceptedException"):
                    self._drop(batch, f"{group}: {error}")
                    del events[: len(batch)]
                    continue
                self._made.pop((group, stream), None)  # somebody may have deleted it
                self._keep(group, stream, events, str(error))
                return False
            except ConnectorError as error:
                self._keep(group, stream, events, str(error))
                return False
            except BaseException:
                self._keep(group, stream, events, "")
                raise
            self._said = ""
            self._size -= sum(event[2] for event in batch)
            del events[: len(batch)]
        return True

    async def _put(self, group: str, stream: str, batch: Sequence[_Event]) -> None:
        entries: list[dict[str, Any]] = [{"timestamp": timestamp, "message": text} for timestamp, text, _ in batch]
        await self._clients.call("logs", "put_log_events", logGroupName=group, logStreamName=stream, logEvents=entries)

    async def _make(self, group: str, stream: str) -> None:
        if (group, stream) in self._made:
            return
        steps: tuple[tuple[str, dict[str, str]], ...] = (
            ("create_log_group", {"logGroupName": group}),
            ("create_log_stream", {"logGroupName": group, "logStreamName": stream}),
        )
        for operation, parameters in steps:
            try:
                await self._clients.call("logs", operation, **parameters)
            except ServiceError as error:
                if error.code != "ResourceAlreadyExistsException":
                    raise
        self._made[group, stream] = None
        if len(self._made) > _KNOWN:
            del self._made[next(iter(self._made))]

    def _keep(self, group: str, stream: str, events: list[_Event], why: str) -> None:
        """In front of what has come meanwhile."""
        self._waiting[group, stream] = events + self._waiting.get((group, stream), [])
        if why and why != self._said:
            self._said = why
            log.warning("CloudWatch Logs does not take log events, which wait in memory: %s", why)

    def _drop(self, batch: Sequence[_Event], why: str) -> None:
        self._size -= sum(event[2] for event in batch)
        self._metrics.log_events_dropped += len(batch)
        log.warning("CloudWatch Logs refused %d log events; they are in the node's own files: %s", len(batch), why)


def _event(timestamp_ms: int, message: str) -> _Event:
    """An empty text is refused, and what is no Unicode cannot be sent."""
    encoded = message.encode(errors="replace")[:_LONGEST] or b" "
    return timestamp_ms, encoded.decode(errors="ignore"), len(encoded) + _EVENT_BYTES


def _batch(events: Sequence[_Event]) -> Sequence[_Event]:
    size = 0
    for at, (timestamp, _, bytes_) in enumerate(events):
        size += bytes_
        if at == _MOST_EVENTS or size > _MOST_BYTES or timestamp - events[0][0] >= _LONGEST_SPAN:
            return events[:at]
    return events
