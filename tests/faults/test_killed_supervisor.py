"""kill -9 of the supervisor at 200 random moments, under a load of submits, file drops and queue messages.

What is promised: every accepted event ends exactly once in success, on-failure destination or dead letters. A repeated
attempt is allowed, and counted; a second settling is not. The moments are seeded, the load is bounded.

Successes of `submitted` go to a queue that drops repeated deliveries, as is the default. All other records go to queues
that keep whatever they are sent: a second delivery of the same record is at-least-once and counted, two different
records of one event are an event that was settled twice.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import json
import random
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from eventfn.engine.contract import Message
from eventfn.engine.sqlite import SqliteEngine
from tests.processes import Orphans
from tests.support import RunningNode, running_node, until, write_project

KILLS = 200
LIVES = 4  # data folders side by side: most of the time goes by in starting up, on every core then
# Seconds after something was accepted within which the kill comes; in every other round after an event has run and a
# message was taken. Else a slow machine would kill all nodes before that, and an event that seems to kill nodes is
# given up at last.
MOMENT = 0.3
EARLY = 10  # each so many kills, one more comes while the node is still starting
SEED = 20_260_101

# A whole CPU for each function: otherwise working off what was accepted takes most of the time.
PROJECT = """
    [limits]
    asynchronous_concurrency = 4

    [queues.jobs]
    dead_letter_queue = "jobs-dead"
    max_receive_count = 1000

    [queues.failed]
    dedupe_window = 0

    [queues.announced]
    dedupe_window = 0

    [functions.submitted]
    handler = "work.submitted"
    memory_size = 1769
    file_system_configs = [{ path = "attempts" }]
    environment = { ATTEMPTS = "${EVENTFN_FOLDER}/attempts" }
    timeout = 60
    retry_delays = ["50ms"]
    maximum_retry_attempts = 1
    on_success = "queue:done"
    on_failure = "queue:failed"

    [[functions.submitted.triggers]]
    type = "http"
    method = "POST"
    path = "/submit"
    async = true

    [functions.filed]
    handler = "work.filed"
    memory_size = 1769
    file_system_configs = [{ path = "attempts" }]
    environment = { ATTEMPTS = "${EVENTFN_FOLDER}/attempts" }
    retry_delays = ["50ms"]
    on_success = "queue:announced"

    [[functions.filed.triggers]]
    type = "files"
    path = "inbox"

    [functions.worked]
    handler = "work.worked"
    memory_size = 1769
    file_system_configs = [{ path = "attempts" }]
    environment = { ATTEMPTS = "${EVENTFN_FOLDER}/attempts" }

    [[functions.worked.triggers]]
    type = "queue"
    queue = "jobs"
    batch_size = 5
    maximum_concurrency = 2
"""

WORK = """
    import json, os

    LOG = os.path.join(os.environ["ATTEMPTS"], "log")

    def attempt(kind, name):
        file = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{kind} {name}\\n".encode())
        os.close(file)

    def submitted(event, context):
        body = json.loads(event["body"])
        attempt("submit", body["name"])
        if body["fails"]:
            raise ValueError("told to fail")
        return body["name"]

    def filed(event, context):
        name = event["Records"][0]["s3"]["object"]["key"]
        attempt("file", name)
        return name

    def worked(event, context):
        for record in event["Records"]:
            attempt("queue", json.loads(record["body"])["name"])
"""


class Accepted:
    """What a node has said yes to."""

    def __init__(self) -> None:
        self.submits: dict[str, bool] = {}  # request id -> whether it was told to fail
        self.files: set[str] = set()
        self.jobs: set[str] = set()


class Load:
    """Gives a node work, three callers at once, until it is cut off."""

    def __init__(self, node: RunningNode, inbox: Path, accepted: Accepted, round_: int) -> None:
        self._node = node
        self._inbox = inbox
        self._accepted = accepted
        self._round = round_
        self.begun = asyncio.Event()
        self.sent = asyncio.Event()  # a message, which the admin listener takes: it answers later than the others

    async def run(self) -> None:
        await asyncio.gather(self._until_cut_off(self._submit), self._until_cut_off(self._send), self._drop())

    async def _until_cut_off(self, work: Any) -> None:
        with contextlib.suppress(aiohttp.ClientConnectionError, aiohttp.ClientPayloadError):
            for n in itertools.count():
                if self._node.is_over:
                    return  # killed between two requests
                await work(n)

    async def _submit(self, n: int) -> None:
        fails = told_to_fail(n)
        event = {"name": f"{self._round}-{n}", "fails": fails}
        status, body = await self._node.fetch("POST", "/submit", json=event)
        assert status == 202, body
        self._accepted.submits[json.loads(body)["requestId"]] = fails
        self.begun.set()

    async def _send(self, n: int) -> None:
        name = f"{self._round}-{n}"
        body = {"body": json.dumps({"name": name})}
        status, answer = await self._node.request("POST", "/queues/jobs/messages", json=body)
        assert status == 201, answer
        self._accepted.jobs.add(name)
        self.sent.set()

    async def _drop(self) -> None:
        """A file is there, whatever becomes of the node: some come when none runs."""
        for n in range(3):
            drop(self._inbox, f"{self._round}-{n}", self._accepted)
            await asyncio.sleep(MOMENT / 4)


def told_to_fail(n: int) -> bool:
    return n % 7 == 3


def drop(inbox: Path, name: str, accepted: Accepted) -> None:
    unfinished = inbox.parent / f"unfinished-{name}"
    unfinished.write_text(name)
    unfinished.rename(inbox / name)
    accepted.files.add(name)


@pytest.mark.timeout(900)
async def test_nothing_accepted_is_lost_or_settled_twice(tmp_path: Path, orphans: Orphans) -> None:
    async with asyncio.TaskGroup() as tasks:
        lives = [tasks.create_task(live(tmp_path / str(number), number)) for number in range(LIVES)]
    await orphans.gone()
    counts = collections.Counter[str]()
    for life in lives:
        counts.update(life.result())
    print(f"\n{KILLS} kills: " + ", ".join(f"{count} {what}" for what, count in counts.items()))


async def live(place: Path, number: int) -> collections.Counter[str]:
    """One data folder, killed over and over, then held against its promises."""
    folder, data = write_project(place / "project", PROJECT, work=WORK), place / "data"
    inbox = folder / "inbox"
    inbox.mkdir()
    (folder / "attempts").mkdir()
    (folder / "attempts" / "log").touch()
    moments = random.Random(SEED + number)
    accepted = Accepted()
    for round_ in range(KILLS // LIVES):
        if round_ % EARLY == 0:
            await _killed_while_starting(folder, data, moments.uniform(0.0, 1.0))
        async with running_node(folder, data) as node:
            load = Load(node, inbox, accepted, round_)
            loading = asyncio.create_task(load.run())
            await load.begun.wait()
            if round_ % 2:
                before = _ran(folder)
                await until(lambda: _ran(folder) > before, "an event runs")  # noqa: B023
                await load.sent.wait()
            await asyncio.sleep(moments.uniform(0.0, MOMENT))  # the moment itself, not something that is waited for
            await node.kill()
            await loading

    async with running_node(folder, data) as node:
        await until(lambda: _nothing_waits(node, folder, accepted), "everything accepted was worked off")

    records = await _in_the_end(data)
    attempts = collections.Counter((folder / "attempts" / "log").read_text().splitlines())
    counts = _judge(accepted, records, attempts)
    assert counts["submits"] > KILLS / LIVES
    assert counts["files"] > KILLS / LIVES
    assert counts["messages"] > KILLS / LIVES
    return counts


def _ran(folder: Path) -> int:
    """Attempts at submitted events so far."""
    return (folder / "attempts" / "log").read_text().count("submit ")


async def _killed_while_starting(folder: Path, data: Path, moment: float) -> None:
    node = RunningNode(folder, data)
    node.spawn()
    try:
        await asyncio.sleep(moment)
    finally:
        await node.kill()


async def _nothing_waits(node: RunningNode, folder: Path, accepted: Accepted) -> bool:
    """Neither in the engine nor on its way into it."""
    attempts = set((folder / "attempts" / "log").read_text().splitlines())
    if not all(f"file {name}" in attempts for name in accepted.files):
        return False
    status = await node.json("GET", "/status")
    depths = [function["events"] for function in status["functions"]]
    depths += [outbox["depth"] for outbox in status["outbox"]]
    depths += [queue["depth"] for queue in status["queues"] if queue["name"] == "jobs"]
    return all(depth["visible"] + depth["in_flight"] + depth["delayed"] == 0 for depth in depths)


def _judge(
    accepted: Accepted, records: dict[str, list[dict[str, Any]]], attempts: collections.Counter[str]
) -> collections.Counter[str]:
    deliveries = [record for queue in ("done", "failed", "announced") for record in records[queue]]
    # A record that was delivered again is the same, byte for byte: that of a second settling has its own timestamp.
    settled = {json.dumps(record, sort_keys=True): record for record in deliveries}
    endings = collections.Counter(request_id(record) for record in settled.values())
    assert [id_ for id_, count in endings.items() if count > 1] == [], "nothing was settled twice"
    assert [id_ for id_ in accepted.submits if id_ not in endings] == [], "each 202 has ended"
    done = collections.Counter(request_id(record) for record in records["done"])
    failed = {request_id(record): record for record in records["failed"]}
    wrong = [id_ for id_, fails in accepted.submits.items() if fails != (id_ in failed)]
    assert [failed.get(id_, id_) for id_ in wrong] == [], "and as it should"
    assert [id_ for id_, count in done.items() if count > 1] == [], "a queue with a dedupe window has each once"
    announced = {request_id(record): record["responsePayload"] for record in records["announced"]}
    assert sorted(announced.values()) == sorted(accepted.files), "each file was announced once"
    assert [name for name in accepted.jobs if f"queue {name}" not in attempts] == [], "each message was worked off"
    repeated = collections.Counter[str]()
    for what, count in attempts.items():
        kind, _, name = what.partition(" ")
        # Those that were told to fail have two attempts by right; one of them may have died before the handler ran.
        expected = 2 if kind == "submit" and told_to_fail(int(name.partition("-")[2])) else 1
        repeated[kind] += max(count - expected, 0)
    counts = collections.Counter[str]()
    counts.update(
        {
            "submits": len(accepted.submits),
            "files": len(accepted.files),
            "messages": len(accepted.jobs),
            "attempts repeated": repeated.total(),
            "deliveries repeated": len(deliveries) - len(settled),
        }
    )
    return counts


def request_id(record: dict[str, Any]) -> str:
    found: str = record["requestContext"]["requestId"]
    return found


async def _in_the_end(data: Path) -> dict[str, list[dict[str, Any]]]:
    """The records by queue. Nothing is left anywhere else."""
    engine = SqliteEngine(data)
    now = time.time_ns() // 1_000_000
    await engine.open(now)
    try:
        records = {name: await _records(engine, f"q/{name}") for name in ("done", "failed", "announced")}
        left = {stat.queue for stat in await engine.stats("", now) if stat.total}
        assert left <= {f"q/{name}" for name in records}, "nothing waits, and nothing is in the dead letters"
        return records
    finally:
        await engine.close()


async def _records(engine: SqliteEngine, queue: str) -> list[dict[str, Any]]:
    messages: list[Message] = []
    while page := await engine.peek(queue, 1000, messages[-1].sequence if messages else 0):
        messages += page
    return [json.loads(message.body) for message in messages]
