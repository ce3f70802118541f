"""The engine alone, in this process: what durability costs before anybody does anything with it."""

from __future__ import annotations

import contextlib
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

from eventfn.engine.contract import Send
from eventfn.engine.sqlite import SqliteEngine

BODY = b'{"text":"' + b"x" * 89 + b'"}'  # 100 bytes
_AT_ONCE = 500


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def send(queue: str) -> Send:
    return Send(queue, str(uuid.uuid4()), BODY)


@contextlib.asynccontextmanager
async def opened(data: Path | None = None) -> AsyncIterator[SqliteEngine]:
    """On this data folder, or on one that is gone afterwards."""
    with contextlib.ExitStack() as cleaning:
        if data is None:
            data = Path(cleaning.enter_context(tempfile.TemporaryDirectory(prefix="eventfn-bench-")))
        engine = SqliteEngine(data)
        try:
            await engine.open(now_ms())
            yield engine
        finally:
            await engine.close()


async def fill(engine: SqliteEngine, queue: str, count: int) -> None:
    for begin in range(0, count, _AT_ONCE):
        await engine.commit([send(queue) for _ in range(min(_AT_ONCE, count - begin))], now_ms())
