"""Objects of a bucket as events: each becomes one asynchronous invocation. Three ways to hear of them, one event."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Protocol

import msgspec

from eventfn.event import Batch
from eventfn.trigger import Pending, Settlement, Traits, TriggerContext
from eventfn_aws.s3.listing import Listing
from eventfn_aws.s3.posted import Posted
from eventfn_aws.s3.queued import Queued
from eventfn_aws.s3.settings import S3Settings, S3Shared


class _Way(Protocol):
    async def connect(self) -> None: ...
    async def read(self, limit: int) -> Batch: ...
    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None: ...
    async def close(self, deadline: float) -> None: ...


_WAYS: Mapping[str, Callable[[S3Settings, S3Shared, TriggerContext], _Way]] = {
    "list": Listing,
    "queue": Queued,
    "webhook": Posted,
}


class S3Trigger:
    Settings: ClassVar[type[msgspec.Struct]] = S3Settings
    Shared: ClassVar[type[msgspec.Struct] | None] = S3Shared
    # Not shared, for the listing's sake: two nodes with a ledger each would announce everything twice.
    traits: ClassVar[Traits] = Traits(invocation="event", ack="record", shared=False, default_batch_size=100)

    def __init__(self, settings: S3Settings, shared: S3Shared, context: TriggerContext) -> None:
        self._way = _WAYS[settings.notifications](settings, shared, context)
        if isinstance(self._way, Pending):  # nobody can say how far behind a listing is
            self.pending = self._way.pending

    async def connect(self) -> None:
        await self._way.connect()

    async def read(self, limit: int) -> Batch:
        return await self._way.read(limit)

    async def settle(self, batch: Batch, settlements: Sequence[Settlement]) -> None:
        await self._way.settle(batch, settlements)

    async def close(self, deadline: float) -> None:
        await self._way.close(deadline)
