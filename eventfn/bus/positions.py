"""What the host keeps for a source: the engine's key-value store, under the source's own name."""

from __future__ import annotations

from eventfn.clock import Clock
from eventfn.engine.contract import Engine, Put
from eventfn.event import Position


class EnginePositions:
    """Implements trigger.Positions for one source: `position/<source>/<key>`."""

    def __init__(self, engine: Engine, source: str, clock: Clock) -> None:
        self._engine = engine
        self._prefix = f"position/{source}/"
        self._clock = clock

    def absolute(self, position: Position) -> Position:
        """The source's position, as the engine keeps it: for the commit that accepts its event."""
        return Position(self._prefix + position.key, position.value)

    async def get(self, key: str) -> bytes | None:
        return await self._engine.get(self._prefix + key)

    async def scan(self, prefix: str = "") -> dict[str, bytes]:
        found = await self._engine.scan(self._prefix + prefix)
        return {key.removeprefix(self._prefix): value for key, value in found.items()}

    async def put(self, key: str, value: bytes | None) -> None:
        await self._engine.commit([Put(self._prefix + key, value)], self._clock.now_ms())
