"""Commits of several partitions, taken along together while an earlier one is under way.

Brokers gather commits for some milliseconds before they answer, and take one at a time from a client: partition by
partition, that would be the bound on what a node can do.
"""

from __future__ import annotations

import asyncio
from typing import Any

from eventfn.errors import ConnectorError
from eventfn_kafka.connecting import REQUEST
from eventfn_kafka.library import outside, said


class _Together:
    """One request: what it commits, and how it went."""

    def __init__(self) -> None:
        self.offsets: dict[Any, tuple[int, str]] = {}
        self.sent = False
        self.failure: BaseException | None = None


class Commits:
    """The offsets of one consumer."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._next = _Together()
        self._turn = asyncio.Lock()

    async def commit(self, partition: Any, offset: int, note: str) -> None:
        """Returns once the brokers have it. Raises ConnectorError: of all that was sent together with it, too."""
        mine = self._next
        mine.offsets[partition] = (offset, note)
        async with self._turn:
            if not mine.sent:
                mine.sent, self._next = True, _Together()
                try:
                    with outside("committing offsets"):
                        async with asyncio.timeout(REQUEST):
                            await self._consumer.commit(mine.offsets)
                except BaseException as failure:
                    mine.failure = failure
                    raise
        if mine.failure is not None:
            raise ConnectorError(said(mine.failure)) from mine.failure
