"""A host in a few lines, for faults: it reads, handles and settles while connections break, and keeps the books."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from eventfn.errors import ConnectorError
from eventfn.event import Record
from eventfn.trigger import DONE, Settlement

_PATIENCE = 60.0


class Ledger:
    """For a trigger that can say what is `pending`."""

    def __init__(self, trigger: Any, fate: Callable[[Record], Settlement] = lambda record: DONE) -> None:
        self.handled: Counter[str] = Counter()  # how often each record was handed out
        self.settled: Counter[str] = Counter()  # how often the source confirmed that it is done
        self.unsure: set[str] = set()  # the connection broke before the source had confirmed: done, or to come again
        self.failures: list[ConnectorError] = []
        self._trigger = trigger
        self._fate = fate

    async def run(self, count: int, at_once: int = 20) -> None:
        """Until `count` records have come and the source has nothing left."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                try:
                    return await self._run(count, at_once)
                except ConnectorError as error:
                    self.failures.append(error)
                    await self._connected()

    async def _run(self, count: int, at_once: int) -> None:
        while len(self.handled) < count or await self._trigger.pending():
            batch = await self._trigger.read(at_once)
            self.handled.update(record.id for record in batch.records)
            fates = [self._fate(record) for record in batch.records]
            done = [record.id for record, fate in zip(batch.records, fates, strict=True) if fate == DONE]
            try:
                await self._trigger.settle(batch, fates)
            except ConnectorError:
                self.unsure.update(done)
                raise
            self.settled.update(done)

    async def _connected(self) -> None:
        while True:
            try:
                await self._trigger.connect()
            except ConnectorError:
                await asyncio.sleep(0.01)
            else:
                return

    def check(self, ids: Sequence[str], *, forgetful: bool = False) -> None:
        """Everything that was put in came to an end, and nothing twice; unless the source forgets what it confirmed."""
        assert sorted(self.handled) == sorted(ids)
        assert set(self.settled) | self.unsure == set(ids)
        if not forgetful:
            assert set(self.settled.values()) <= {1}, f"done twice: {self.settled.most_common(3)}"
