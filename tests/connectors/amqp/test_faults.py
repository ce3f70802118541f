"""The broker dies, the network breaks, while a node's own host and a function are at work: what was put in is compared
with what was handled and settled."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from eventfn.clock import SystemClock
from eventfn.errors import ConnectorError
from eventfn.testing import FakeClock, eventually, trigger_context
from eventfn_amqp import AmqpTrigger
from eventfn_amqp.connection import Brokers
from eventfn_amqp.settings import QueueSettings
from tests.connectors.amqp.conftest import Peer
from tests.connectors.at_work import AtWork, Faults, at_work
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitMQ

EVENTS = 300


@pytest_asyncio.fixture
async def made() -> AsyncIterator[list[AmqpTrigger]]:
    made: list[AmqpTrigger] = []
    yield made
    for trigger in made:
        await trigger.close(5)


async def run(trigger: AmqpTrigger, settings: QueueSettings, faults: Faults) -> AtWork:
    async with at_work(trigger, settings, faults) as work:
        await work.has_done(EVENTS)
    assert not work.settled_twice
    return work


async def put(peer: Peer, queue: str) -> list[str]:
    names = [f"m{number:03}" for number in range(EVENTS)]
    for name in names:
        await peer.send(queue, b'{"name": "%b"}' % name.encode(), message_id=name)
    return names


def broker(at: Proxy | RabbitMQ, options: str = "") -> Brokers:
    return Brokers(url=f"amqp://guest:guest@{at.host}:{at.port}/{options}")


async def test_a_broker_that_is_killed_in_mid_batch_loses_nothing(
    server: RabbitMQ, proxy: Proxy, peer: Peer, tmp_path: Path, made: list[AmqpTrigger]
) -> None:
    queue = await peer.declare()
    names = await put(peer, queue)
    settings = QueueSettings(queue=queue, prefetch=50)
    made.append(AmqpTrigger(settings, broker(proxy), trigger_context(tmp_path, clock=SystemClock())))

    async def kill_and_start() -> None:
        await eventually(lambda: server.remembers(queue))
        server.kill()
        await proxy.refuse()
        await asyncio.to_thread(server.start)
        await proxy.accept()

    work = await run(made[0], settings, {73: kill_and_start})
    assert set(work.handled) == set(names)
    assert await peer.waiting(queue) == 0


async def test_a_network_that_is_cut_again_and_again_loses_nothing(
    proxy: Proxy, peer: Peer, tmp_path: Path, made: list[AmqpTrigger]
) -> None:
    queue = await peer.declare()
    names = await put(peer, queue)
    settings = QueueSettings(queue=queue, prefetch=50)
    made.append(AmqpTrigger(settings, broker(proxy), trigger_context(tmp_path, clock=SystemClock())))

    async def cut() -> None:
        proxy.cut()

    async def truncate() -> None:
        proxy.truncate("down", 1000)
        proxy.truncate("up", 30)

    async def drop() -> None:
        proxy.drop("up", 7)  # half a frame is missing: the broker finds what follows no frame

    faults: Faults = {31: cut, 95: truncate, 160: drop, 201: cut, 202: cut}
    work = await run(made[0], settings, faults)
    assert set(work.handled) == set(names)
    assert await peer.waiting(queue) == 0


async def test_without_faults_each_message_is_handled_once_and_in_order(
    server: RabbitMQ, peer: Peer, tmp_path: Path, made: list[AmqpTrigger]
) -> None:
    queue = await peer.declare()
    names = await put(peer, queue)
    settings = QueueSettings(queue=queue)
    made.append(AmqpTrigger(settings, broker(server), trigger_context(tmp_path, clock=SystemClock())))
    work = await run(made[0], settings, {})
    assert work.handled == names
    assert set(work.done.values()) == {1}


async def test_a_network_that_is_silent_is_noticed(
    proxy: Proxy, peer: Peer, tmp_path: Path, made: list[AmqpTrigger]
) -> None:
    queue = await peer.declare()
    await peer.send(queue, b"1", message_id="m")
    trigger = AmqpTrigger(
        QueueSettings(queue=queue), broker(proxy, "?heartbeat=1"), trigger_context(tmp_path, clock=SystemClock())
    )
    made.append(trigger)
    await trigger.connect()
    await trigger.read(10)
    proxy.stall()
    began = time.monotonic()
    with pytest.raises(ConnectorError, match="connection was lost"):
        await asyncio.wait_for(trigger.read(10), 60)
    assert time.monotonic() - began < 15
    await asyncio.wait_for(trigger.close(5), 60)
    proxy.flow()
    await trigger.connect()
    again = await asyncio.wait_for(trigger.read(10), 60)
    assert [record.id for record in again.records] == ["m"]


async def test_a_broker_that_is_frozen_does_not_hold_up_closing(
    server: RabbitMQ, peer: Peer, tmp_path: Path, made: list[AmqpTrigger]
) -> None:
    queue = await peer.declare()
    trigger = AmqpTrigger(QueueSettings(queue=queue), broker(server), trigger_context(tmp_path, clock=FakeClock()))
    made.append(trigger)
    await trigger.connect()
    server.freeze()
    try:
        began = time.monotonic()
        with contextlib.suppress(ConnectorError):
            await trigger.close(2)
        assert time.monotonic() - began < 3
    finally:
        server.thaw()
