"""What was measured on: figures without it mean nothing."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence

import msgspec

from bench import running
from eventfn.observe.status import Wall


class Conditions(msgspec.Struct, frozen=True):
    """`load` is the machine's load average of a minute, before anything was measured."""

    cores: int
    load: float
    python: str
    system: str
    sandbox: str

    def text(self) -> str:
        return (
            f"{self.cores} cores that the load shares, load average {self.load:.1f} at the start. "
            f"Python {self.python}, {self.system}. {self.sandbox}"
        )


async def found() -> Conditions:
    load = os.getloadavg()[0]
    async with running.node() as node:
        sandbox = _sandbox((await node.status()).enforcement)
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return Conditions(os.cpu_count() or 1, load, platform.python_version(), system, sandbox)


def _sandbox(walls: Sequence[Wall]) -> str:
    """As the node itself says it."""
    full = next(wall for wall in walls if wall.wall == "full sandbox")
    said = "Sandbox: the full tier" if full.enforced else f"Sandbox: {full.meaning}"
    missing = [wall.wall for wall in walls if not wall.enforced]
    return f"{said}; not enforced: {', '.join(missing)}." if missing else f"{said}, every wall enforced."
