"""The cron connector is a trigger as the contract has it."""

from __future__ import annotations

import datetime

import msgspec

from eventfn.event import Record
from eventfn.testing.triggers import TriggerSuite
from eventfn_cron import CronTrigger
from eventfn_cron.settings import CronSettings


class TestCronTrigger(TriggerSuite):
    trigger = CronTrigger
    name = "cron"

    def settings(self) -> CronSettings:
        return CronSettings(schedule="* * * * *", missed="all")

    async def put(self, number: int) -> None:
        await self.clock.advance(60)

    async def pass_time(self) -> None:
        """Only `put` moves the clock: every minute that passes is an event."""

    def number(self, record: Record) -> int:
        time = datetime.datetime.fromisoformat(msgspec.json.decode(record.payload)["time"])
        return int(time.timestamp()) // 60 - self.clock_start // 60_000 - 1

    @property
    def clock_start(self) -> int:
        return type(self.clock)().now_ms()

    async def test_what_was_not_settled_comes_again_after_a_restart(self) -> None:
        # One tick at a time: the next is handed over only once this one is settled.
        trigger = await self.opened()
        await self.put(1)
        lost = await self.read(trigger)
        await trigger.close(5)
        (again,) = await self.finish(await self.opened(), 1)
        assert [again.id] == [record.id for record in lost.records]
