"""The whole consuming side on the embedded engine and the machine's clock, through a restart."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from eventfn.bus.intake import Intake
from eventfn.bus.queues import NamedQueues
from eventfn.clock import SystemClock
from eventfn.engine.sqlite import SqliteEngine
from eventfn.event import Outcome
from eventfn.functions.model import Queue
from eventfn.testing import trigger_context
from eventfn.trigger import QueueMessage
from eventfn.units import Duration
from eventfn_queue import QueueTrigger
from tests.bus.hosting import FAILURE, SUCCESS, binding, function, log
from tests.support import until

MESSAGES = 300
JOBS = Queue(
    name="jobs",
    visibility_timeout=Duration(0.05),  # what fails comes again soon: real time passes here
    dead_letter_queue="jobs-dead",
    max_receive_count=2,
)


class Worker:
    """Fails for every tenth message."""

    def __init__(self) -> None:
        self.handled: Counter[int] = Counter()

    async def invoke(self, name: str, payload: bytes) -> Outcome:
        numbers = [int(record["body"]) for record in msgspec.json.decode(payload)["Records"]]
        await asyncio.sleep(0)
        if any(number % 10 == 0 for number in numbers):
            return FAILURE
        self.handled.update(numbers)
        return SUCCESS


@contextlib.asynccontextmanager
async def node(folder: Path) -> AsyncIterator[NamedQueues]:
    clock = SystemClock()
    engine = SqliteEngine(folder / "data")
    await engine.open(clock.now_ms())
    queues = NamedQueues(engine, {"jobs": JOBS}, clock)
    waker = asyncio.create_task(queues.run())
    yield queues
    waker.cancel()
    await asyncio.gather(waker, return_exceptions=True)
    await engine.close()


@contextlib.asynccontextmanager
async def consuming(queues: NamedQueues, folder: Path, worker: Worker) -> AsyncIterator[Intake]:
    clock = SystemClock()
    trigger: Any = QueueTrigger(QueueTrigger.Settings(queue="jobs"), None, trigger_context(folder, queues=queues))
    intake = Intake(function(), binding(batch_size=1), trigger, worker.invoke, clock, log=log)
    task = asyncio.create_task(intake.run())
    yield intake
    await intake.drain(10)
    await task


async def test_every_message_is_handled_or_in_the_dead_letters(tmp_path: Path) -> None:
    worker = Worker()
    async with node(tmp_path) as queues:
        await queues.send("jobs", [QueueMessage(body=str(number).encode()) for number in range(MESSAGES)])
        async with consuming(queues, tmp_path, worker):
            await until(lambda: len(worker.handled) > MESSAGES // 3, "a third is handled")
    async with node(tmp_path) as queues, consuming(queues, tmp_path, worker):

        async def all_ended() -> bool:
            return await queues.depth("jobs") == 0 and await queues.depth("jobs-dead") == MESSAGES // 10

        await until(all_ended, "every message has ended")
        dead = {int(message.body) for message in await queues.peek("jobs-dead", MESSAGES)}
    assert dead == set(range(0, MESSAGES, 10))
    assert set(worker.handled) == set(range(MESSAGES)) - dead
