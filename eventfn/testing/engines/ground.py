"""What all suites of engines stand on: an opened engine, and words for the usual operations."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from eventfn.engine.contract import (
    Claim,
    Complete,
    Engine,
    Extend,
    Message,
    Move,
    Operation,
    Put,
    Release,
    Send,
)

NOW = 1_700_000_000_000  # suites count from here, in milliseconds
LEASE = 30_000


def ids(messages: Sequence[Message]) -> list[str]:
    return [message.id for message in messages]


def sends(queue: str, *names: str, group: str | None = None) -> list[Operation]:
    return [Send(queue, name, name.encode(), group=group) for name in names]


def every_settlement(claim: Claim) -> list[Operation]:
    return [Complete(claim), Release(claim, NOW), Extend(claim, NOW + LEASE), Move(claim, "r")]


class EngineGround:
    def create(self, folder: Path) -> Engine:
        """An engine that is not open yet. `folder` does not exist; nobody else uses it."""
        raise NotImplementedError

    @pytest.fixture
    async def engine(self, tmp_path: Path) -> AsyncIterator[Engine]:
        engine = self.create(tmp_path / "data")
        await engine.open(NOW)
        yield engine
        await engine.close()

    async def everything(self, engine: Engine) -> Any:
        stats = await engine.stats("", NOW)
        messages = [await engine.peek(queue.queue, 1000) for queue in stats]
        return stats, messages, await engine.scan(""), await engine.next_visible("")

    async def settled(self, engine: Engine) -> None:
        """Everything that was set off has been done: a commit comes behind what was handed over before it."""
        for _ in range(3):
            await engine.commit([Put("barrier", b"")], NOW)
