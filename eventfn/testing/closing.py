"""`close` as the host calls it: one that hangs fails its test, where it would hang the whole run."""

from __future__ import annotations

import asyncio
from typing import Any

GRACE = 2.0  # real seconds beyond its deadline


async def close(connector: Any, deadline: float = 5.0) -> None:
    """Closes a trigger or a destination. Raises AssertionError when it does not return."""
    limit = asyncio.timeout(deadline + GRACE)
    try:
        async with limit:
            await connector.close(deadline)
    except TimeoutError:
        if not limit.expired():
            raise
        raise AssertionError(
            f"{type(connector).__name__}.close({deadline:g}) had not returned {GRACE:g} s after its deadline"
        ) from None
