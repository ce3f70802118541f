"""Which triggers an operator has switched off or on at run time, whatever they are declared as, over restarts too."""

from __future__ import annotations

from eventfn.engine.contract import Engine, Put

PREFIX = "switch/"  # switch/<source>: what it was switched to


async def read(engine: Engine) -> dict[str, bool]:
    return {key.removeprefix(PREFIX): value == b"on" for key, value in (await engine.scan(PREFIX)).items()}


async def keep(engine: Engine, source: str, enabled: bool | None, now: int) -> None:
    """None: it is as it is declared. Raises EngineError."""
    value = None if enabled is None else b"on" if enabled else b"off"
    await engine.commit([Put(PREFIX + source, value)], now)
