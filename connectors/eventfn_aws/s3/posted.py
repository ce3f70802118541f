"""A store that posts its notifications: each is answered with 200 once all of its records are on disk."""

from __future__ import annotations

import asyncio
import importlib
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from eventfn.event import Batch, Record
from eventfn.trigger import Retry, Settlement, TriggerContext
from eventfn_aws.s3.notified import ended, records
from eventfn_aws.s3.settings import S3Settings, S3Shared
from eventfn_aws.s3.shape import Origin
from eventfn_aws.sns.trigger import address

if TYPE_CHECKING:
    from eventfn_aws.s3.listener import Listener

_MOST_WAITING = 1000  # records that nobody has read yet: whoever posts more is to come again


class Posted:
    def __init__(self, settings: S3Settings, shared: S3Shared, context: TriggerContext) -> None:
        self._path = settings.path or "/"
        self._wanted = settings.wanted
        self._shared = shared
        self._context = context
        self._origin = Origin(context.source, shared.region or context.region, context.account)
        self._ready: deque[Record] = deque()
        self._arrived = asyncio.Event()
        self._answers: set[asyncio.Future[bool]] = set()
        self._listener: Listener | None = None

    async def connect(self) -> None:
        if self._listener is None:
            await asyncio.to_thread(importlib.import_module, "eventfn_aws.s3.listener")
            from eventfn_aws.s3.listener import Listener  # imported by now

            host, port = address(self._shared.listen)
            listener = Listener.at(host, port, self._shared.webhook_token, self._context.log)
            await listener.add(self._path, self.take)
            self._listener = listener

    async def read(self, limit: int) -> Batch:
        while not self._ready:
            self._arrived.clear()
            await self._arrived.wait()
        return Batch(tuple(self._ready.popleft() for _ in range(min(limit, len(self._ready)))))

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        for held in ended(zip(batch.records, settlements, strict=True), self._context.log):
            _answer(held.claim, not isinstance(held.fate, Retry))

    async def take(self, body: bytes) -> bool:
        """Whether all that is wanted of a notification is on disk. Raises msgspec.DecodeError when it is none."""
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        found = records(body, self._wanted, self._origin, self._context.clock.now_ms(), answer)
        if not found:
            return True
        if self._ready and len(self._ready) + len(found) > _MOST_WAITING:
            return False
        self._ready.extend(found)
        self._arrived.set()
        self._answers.add(answer)
        try:
            return await answer
        finally:
            self._answers.discard(answer)

    async def close(self, deadline: float) -> None:
        """Whoever waits for an answer is to come again."""
        self._ready.clear()
        for answer in self._answers:
            _answer(answer, False)
        listener, self._listener = self._listener, None
        if listener is not None:
            await listener.remove(self._path, self.take)


def _answer(answer: asyncio.Future[bool], is_on_disk: bool) -> None:
    if not answer.done():  # whoever asked may be gone
        answer.set_result(is_on_disk)
