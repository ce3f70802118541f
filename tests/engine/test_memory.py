from __future__ import annotations

from pathlib import Path

from eventfn.engine.memory import MemoryEngine
from eventfn.testing.engines import EmbeddedEngineSuite


class TestMemoryEngine(EmbeddedEngineSuite):
    def create(self, folder: Path) -> MemoryEngine:
        return MemoryEngine()
