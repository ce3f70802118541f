"""`arn:aws:...` as a destination: Lambda's own way to name one. Each service's destination does the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from eventfn.destination import Delivery, DestinationContext, OutgoingRecord


class ArnDestination:
    class Settings(msgspec.Struct, frozen=True):
        """Nothing."""

    idempotent: ClassVar[bool] = False

    @classmethod
    def check(cls, target: str, settings: Settings) -> str | None:
        return "not built yet"

    def __init__(self, target: str, settings: Settings, context: DestinationContext) -> None: ...

    async def connect(self) -> None: ...

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        raise NotImplementedError

    async def close(self, deadline: float) -> None: ...
