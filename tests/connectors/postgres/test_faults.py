"""What is put in is settled once and in order, whatever is killed, cut or stalled: two nodes on one outbox."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from eventfn.bus.intake import Intake
from eventfn.clock import SystemClock
from eventfn.errors import ConnectorError
from eventfn.event import Outcome, OutcomeKind
from eventfn.functions import model
from eventfn.testing import eventually
from eventfn.trigger import DONE
from eventfn.units import Duration
from eventfn_postgres import PostgresTrigger
from tests.connectors.postgres.outbox import Outbox, bodies
from tests.servers.proxy import Proxy

Function = Callable[[list[Any]], Awaitable[Outcome]]


def reported(records: list[Any]) -> Outcome:
    failures = [{"itemIdentifier": record["messageId"]} for record in records]
    return Outcome(OutcomeKind.SUCCESS, msgspec.json.encode({"batchItemFailures": failures}))


class Nodes:
    """Hosts as a node has them, each with a trigger of its own."""

    def __init__(self) -> None:
        self._hosts: list[tuple[Intake, asyncio.Task[None]]] = []

    def start(self, trigger: PostgresTrigger, handle: Function, **intake: Any) -> Intake:
        async def invoke(function: str, payload: bytes) -> Outcome:
            return await handle(msgspec.json.decode(payload)["Records"])

        host = Intake(
            model.Function(name="ship", handler="ship.handler", code="/project", timeout=Duration(3)),
            model.TriggerBinding(
                type="postgres", source="ship/postgres/0", settings=None, intake=model.Intake(**intake)
            ),
            trigger,
            invoke,
            SystemClock(),
            log=logging.getLogger("eventfn.tests"),
            jitter=lambda: 0.0,
        )
        self._hosts.append((host, asyncio.create_task(host.run())))
        return host

    async def crash(self) -> None:
        """Nothing is settled, nothing is told."""
        for _, running in self._hosts:
            running.cancel()
        await asyncio.gather(*(running for _, running in self._hosts), return_exceptions=True)
        self._hosts.clear()


@pytest_asyncio.fixture
async def nodes() -> AsyncIterator[Nodes]:
    made = Nodes()
    yield made
    await made.crash()


class Handled:
    """A function that keeps the books: what succeeded, and in which order, group by group."""

    def __init__(self, chance: random.Random, failures: float) -> None:
        self.succeeded: list[str] = []
        self.calls = 0
        self._chance = chance
        self._failures = failures
        self._under_way: set[str] = set()

    async def __call__(self, records: list[Any]) -> Outcome:
        self.calls += 1
        groups = {record["attributes"].get("MessageGroupId") for record in records} - {None}
        assert not groups & self._under_way, "two batches of one group at once"
        self._under_way |= groups
        await asyncio.sleep(self._chance.random() * 0.01)
        self._under_way -= groups
        back = []
        blocked: set[str] = set()
        for record in records:
            group = record["attributes"].get("MessageGroupId")
            # As Lambda asks of a FIFO queue: what is behind a failure in its group is reported too.
            if group in blocked or self._chance.random() < self._failures:
                back.append(record)
                blocked |= {group} - {None}
        self.succeeded += [record["body"] for record in records if record not in back]
        return reported(back)


async def test_two_nodes_share_an_outbox_and_groups_keep_their_order(outbox: Outbox, nodes: Nodes) -> None:
    chance = random.Random(7)
    handled = Handled(chance, failures=0.03)
    for batch_size in (3, 10):
        nodes.start(
            outbox.trigger(lease=2, max_receive_count=1000),
            handled,
            batch_size=batch_size,
            report_batch_item_failures=True,
        )
    names = [f"{group}{number:03}" for number in range(25) for group in "abcde"]
    for name in names:
        await outbox.put(name, group=name[0])
        await outbox.put(f"-{name}")
    await eventually(lambda: len(handled.succeeded) >= 2 * len(names), within=60)
    await eventually_empty(outbox)
    assert Counter(handled.succeeded) == Counter([*names, *(f"-{name}" for name in names)])
    for group in "abcde":
        assert [body for body in handled.succeeded if body.startswith(group)] == [n for n in names if n[0] == group]


async def eventually_empty(outbox: Outbox) -> None:
    async with asyncio.timeout(60):
        while await outbox.rows():
            await asyncio.sleep(0.02)


async def test_a_server_that_is_killed_in_mid_batch_loses_nothing(outbox: Outbox, nodes: Nodes) -> None:
    started: list[str] = []
    finished: list[str] = []
    killed = asyncio.Event()

    async def handle(records: list[Any]) -> Outcome:
        started.extend(record["body"] for record in records)
        if len(started) >= 30:
            await killed.wait()  # in the middle of a batch
        finished.extend(record["body"] for record in records)
        return reported([])

    names = [f"{number:03}" for number in range(60)]
    for name in names:
        await outbox.put(name, group=name[-1])
    host = nodes.start(outbox.trigger(lease=2), handle, batch_size=5)
    await eventually(lambda: len(started) >= 30)
    outbox.server.kill()
    await eventually(lambda: not host.status.connected)
    outbox.server.start()
    await outbox.write_again()
    killed.set()
    await eventually(lambda: set(finished) == set(names), within=60)
    await eventually_empty(outbox)
    again = [name for name, times in Counter(finished).items() if times > 1]
    assert len(again) < len(names), "what was settled came again"
    for last in "0123456789":
        order = list(dict.fromkeys(name for name in finished if name[-1] == last))
        assert order == sorted(order), "the order of a group is lost"


async def test_a_node_that_dies_leaves_its_rows_to_another(outbox: Outbox, nodes: Nodes) -> None:
    stuck = asyncio.Event()

    async def hang(records: list[Any]) -> Outcome:
        stuck.set()
        await asyncio.Event().wait()
        raise AssertionError

    finished: list[str] = []

    async def handle(records: list[Any]) -> Outcome:
        finished.extend(record["body"] for record in records)
        return reported([])

    await outbox.put("a1", "a2", group="a")
    nodes.start(outbox.trigger(lease=1), hang, maximum_concurrency=1)
    await stuck.wait()
    nodes.start(outbox.trigger(lease=1), handle)
    await outbox.put("b1", group="b")
    await eventually(lambda: finished == ["b1"])
    while len(await outbox.rows()) > 2:  # its row is gone a moment after
        await asyncio.sleep(0.01)
    # While the first node lives, its lease is extended, and the second gets nothing of it.
    ((first_end,),) = await outbox.run("SELECT min(visible_at) FROM {table}")
    while await outbox.run("SELECT WHERE now() <= %s", first_end):
        await asyncio.sleep(0.05)
    assert [hidden for _, _, hidden, _ in await outbox.rows()] == [True, True]
    assert finished == ["b1"]
    first, running = nodes._hosts[0]
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await eventually(lambda: finished == ["b1", "a1", "a2"])
    assert first.status.records_done == 0


async def test_a_network_that_is_cut_again_and_again_loses_nothing(outbox: Outbox, nodes: Nodes) -> None:
    handled = Handled(random.Random(3), failures=0.0)
    async with Proxy(outbox.server.host, outbox.server.port) as proxy:
        trigger = outbox.trigger(port=proxy.port, lease=1, max_receive_count=1000)
        nodes.start(trigger, handled, batch_size=5, report_batch_item_failures=True)
        names = [f"{number:03}" for number in range(100)]
        for name in names:
            await outbox.put(name)
            if int(name) % 20 == 19:
                known = len(handled.succeeded)
                await eventually(lambda known=known: len(handled.succeeded) > known, within=60)  # type: ignore[misc]
                proxy.cut()
        await eventually(lambda: set(handled.succeeded) == set(names), within=60)
        await eventually_empty(outbox)
        await nodes.crash()


async def test_an_answer_that_never_comes_is_a_lost_connection(outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Proxy(outbox.server.host, outbox.server.port) as proxy:
        trigger = await outbox.opened(port=proxy.port)
        await outbox.put("one")
        batch = await trigger.read(10)
        monkeypatch.setattr("eventfn_postgres.session.ANSWER", 0.2)
        proxy.stall()
        with pytest.raises(ConnectorError, match=r"did not answer within 0.2 s"):
            await trigger.settle(batch, [DONE])
        monkeypatch.undo()
        proxy.flow()
        await trigger.settle(batch, [DONE])  # with another connection
        assert await outbox.rows() == []


async def test_a_settle_after_a_restart_is_told_to_the_new_server(outbox: Outbox) -> None:
    trigger = await outbox.opened()
    await outbox.put("one")
    batch = await trigger.read(10)
    outbox.server.kill()
    outbox.server.start()
    await trigger.settle(batch, [DONE])  # before anybody has noticed
    await outbox.write_again()
    assert await outbox.rows() == []
    with pytest.raises(ConnectorError, match="closed the connection"):
        await trigger.read(10)


async def test_a_stalled_network_holds_up_no_close(outbox: Outbox) -> None:
    async with Proxy(outbox.server.host, outbox.server.port) as proxy:
        trigger = await outbox.opened(port=proxy.port)
        await outbox.put("one")
        proxy.stall()
        reading = asyncio.create_task(trigger.read(10))
        await asyncio.sleep(0.01)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await trigger.close(1)
        assert loop.time() - began < 1
        with pytest.raises(ConnectorError):
            await reading


async def test_a_listener_that_is_lost_is_noticed_without_asking(outbox: Outbox) -> None:
    async with Proxy(outbox.server.host, outbox.server.port) as proxy:
        trigger = await outbox.opened(port=proxy.port)
        reading = asyncio.create_task(trigger.read(10))
        await asyncio.sleep(0.02)
        await outbox.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%%'")
        with pytest.raises(ConnectorError, match="terminat"):
            await reading
        await trigger.connect()
        await outbox.put("one")
        assert bodies(await trigger.read(10)) == ["one"]
