"""The destination: submits each record, whole, under its own id, so the function gets it once however often it is sent.

Shape: Lambda's function destination "receives the whole record as its event, asynchronously".
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import ClassVar

import msgspec

from eventfn.destination import WRITTEN, Delivery, DestinationContext, OutgoingRecord, Rejected, RetryAfter
from eventfn.errors import EngineError, FunctionNotFound, FunctionNotReady, PayloadTooLarge, ShuttingDown, Throttled

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # Lambda's FunctionName without account, region and version


class FunctionSettings(msgspec.Struct, frozen=True):
    """[destinations.fn] has no keys."""


class FunctionDestination:
    Settings: ClassVar[type[msgspec.Struct]] = FunctionSettings
    idempotent: ClassVar[bool] = True

    @classmethod
    def check(cls, target: str, settings: FunctionSettings) -> str | None:
        if _NAME.fullmatch(target):
            return None
        return f"expected the name of a function, as in 'fn:audit', got 'fn:{target}'"

    def __init__(self, target: str, settings: FunctionSettings, context: DestinationContext) -> None:
        self._function = target
        self._submit = context.submit

    async def connect(self) -> None:
        """There is nothing outside to connect to."""

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        # All at once, in their order: the engine puts what is submitted together into one commit to the disk.
        return list(await asyncio.gather(*(self._write(record) for record in records)))

    async def close(self, deadline: float) -> None:
        """Nothing is open."""

    async def _write(self, record: OutgoingRecord) -> Delivery:
        try:
            await self._submit(self._function, record.payload, record.id)
        except (FunctionNotFound, PayloadTooLarge) as error:
            return Rejected(str(error))
        except Throttled as error:
            return RetryAfter(f"{self._function} is throttled: {error.reason}", after=error.retry_after)
        except (FunctionNotReady, ShuttingDown, EngineError) as error:
            return RetryAfter(str(error) or type(error).__name__)
        return WRITTEN
