"""The conformance suite of engines: every promise of eventfn.engine.contract as a test, and a model beside them.

class TestMyEngine(EngineSuite):
    def create(self, folder: Path) -> Engine:
        return MyEngine(folder)
"""

from __future__ import annotations

import pytest

from eventfn.engine.contract import Complete, Engine, Send
from eventfn.errors import Fenced
from eventfn.testing.engines.commits import CommitPromises
from eventfn.testing.engines.facts import FactPromises
from eventfn.testing.engines.ground import LEASE, NOW, ids, sends
from eventfn.testing.engines.groups import GroupPromises
from eventfn.testing.engines.looking import LookingPromises
from eventfn.testing.engines.messages import MessagePromises
from eventfn.testing.engines.model import ModelPromise

__all__ = ["LEASE", "NOW", "EmbeddedEngineSuite", "EngineSuite", "ids", "sends"]


class EngineSuite(MessagePromises, CommitPromises, GroupPromises, LookingPromises, FactPromises, ModelPromise):
    """Subclass it as a Test class and say how an engine is made. `create` is called once for each test."""


class EmbeddedEngineSuite(EngineSuite):
    """For an engine that is alone with its data: what a process that is gone had claimed is free at the next start."""

    async def test_claims_of_a_process_that_is_gone_are_released(self, engine: Engine) -> None:
        await engine.commit([*sends("q", "a", "b", group="g"), *sends("q", "c")], NOW)
        await engine.commit([Send("q", "later", b"", visible_ms=NOW + LEASE)], NOW)
        claimed = await engine.claim("q", 10, NOW + LEASE, NOW)
        await engine.close()
        await engine.open(NOW + 1)
        for message in claimed:
            with pytest.raises(Fenced):
                await engine.commit([Complete(message.claim)], NOW + 1)
        assert [message.visible_ms for message in await engine.peek("q", 3)] == [NOW + 1] * 3
        again = await engine.claim("q", 10, NOW + LEASE, NOW + 1)
        assert ids(again) == ["a", "b", "c"]
        assert [(message.attempts, message.claims) for message in again] == [(2, 2)] * 3  # the attempt stays counted
        for message in claimed:
            with pytest.raises(Fenced):
                await engine.commit([Complete(message.claim)], NOW + 1)

    async def test_leases_of_a_process_that_is_gone_are_free(self, engine: Engine) -> None:
        gone = await engine.acquire("cron", "node-1", NOW + LEASE, NOW)
        await engine.close()
        await engine.open(NOW + 1)
        taken = await engine.acquire("cron", "node-2", NOW + LEASE, NOW + 1)
        assert gone is not None
        assert taken is not None
        assert taken.epoch == gone.epoch + 1
