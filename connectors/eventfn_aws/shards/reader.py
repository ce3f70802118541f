"""Reading one shard: asking at the service's pace, going on when an iterator has expired, ending where the shard ends.

Nothing here knows which of the two services it is: that is what a `ShardApi` is for.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import NamedTuple, Protocol

from eventfn.clock import Clock
from eventfn.event import Batch, Record
from eventfn.trigger import Start
from eventfn_aws.client import AwsError

# Of one answer at least: both services allow few reads a second, so what a small batch leaves over is kept.
_AT_ONCE = 1000
_LONGEST_WAIT = 16.0  # seconds, while the service says that the shard is read too often


class Answer(NamedTuple):
    records: list[Record]  # `token` of each is its position
    next: str | None  # iterator; None: the shard is closed, and this was its end
    last: str | None  # position behind all that was answered, what is in no record included
    behind: bool  # there is more at once


class Pace(NamedTuple):
    """Seconds from one read of a shard to the next, and the most records of one."""

    busy: float  # while records come
    idle: float
    most: int


class ShardApi(Protocol):
    """One shard of one service."""

    async def iterator(self, at: str | Start) -> str:
        """Raises AwsError, ConnectorError."""
        ...

    async def get(self, iterator: str, limit: int) -> Answer:
        """Raises AwsError, ConnectorError."""
        ...


class PacedReader:
    def __init__(self, api: ShardApi, pace: Pace, name: str, clock: Clock, log: logging.Logger) -> None:
        self._api = api
        self._pace = pace
        self._name = name
        self._clock = clock
        self._log = log
        self._records: deque[Record] = deque()  # fetched, and not yet handed over
        self._iterator: str | None = None
        self._at: str | Start = Start("TRIM_HORIZON")  # where to go on when the iterator is of no use any more
        self._next_read = clock.monotonic()
        self._refusals = 0  # in a row, for being too fast

    async def open(self, at: str | Start) -> None:
        opened = self._clock.now_ms()
        self._iterator = await self._iterator_at(at)
        # An iterator that expires before its first record must not lose what came meanwhile.
        self._at = Start("AT_TIMESTAMP", opened) if isinstance(at, Start) and at.position == "LATEST" else at

    async def read(self, limit: int) -> Batch:
        while not self._records and self._iterator is not None:
            await self._clock.sleep(self._next_read - self._clock.monotonic())
            await self._fetch(self._iterator, limit)
        # From here on nothing is awaited: a cancelled read has taken nothing.
        return Batch(tuple(self._records.popleft() for _ in range(min(limit, len(self._records)))))

    async def _fetch(self, iterator: str, limit: int) -> None:
        try:
            answer = await self._api.get(iterator, min(max(limit, _AT_ONCE), self._pace.most))
        except AwsError as error:
            if error.code == "ExpiredIteratorException":
                self._iterator = await self._iterator_at(self._at)
            elif error.code == "TrimmedDataAccessException":
                self._iterator = await self._from_the_oldest(error)
            elif error.throttled:
                self._wait(min(2.0**self._refusals, _LONGEST_WAIT))
                self._refusals += 1
                if self._refusals == 1:
                    self._log.info("%s is read too often, by all its readers together: %s", self._name, error)
            else:
                raise
            return
        self._refusals = 0
        self._iterator = answer.next
        self._at = answer.last or self._at
        self._records.extend(answer.records)
        self._wait(self._pace.busy if answer.behind or answer.last else self._pace.idle)

    async def _iterator_at(self, at: str | Start) -> str:
        try:
            return await self._api.iterator(at)
        except AwsError as error:
            if error.code == "TrimmedDataAccessException" or (
                # Kinesis: a sequence number of another stream that had this one's name.
                error.code == "InvalidArgumentException" and isinstance(at, str)
            ):
                return await self._from_the_oldest(error)
            if error.code == "InvalidArgumentException" and isinstance(at, Start) and at.position == "AT_TIMESTAMP":
                # It lies in the future of the service's clock: everything there is came before it.
                return await self._api.iterator(Start("LATEST"))
            raise

    async def _from_the_oldest(self, error: AwsError) -> str:
        self._log.warning(
            "%s cannot be read on from where it was left, so it is read from its oldest record; what had left the "
            "stream before is lost: %s",
            self._name,
            error,
        )
        return await self._api.iterator(Start("TRIM_HORIZON"))

    def _wait(self, seconds: float) -> None:
        self._next_read = self._clock.monotonic() + seconds

    def position(self, record: Record) -> str:
        position: str = record.token
        return position

    async def close(self) -> None:
        """The service keeps nothing of a reader, and the client is the trigger's."""
