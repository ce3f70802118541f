"""Networks that break and a NATS that is killed, in mid-batch: what was put in is what was settled, once."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import eventfn_nats.inbox
import eventfn_nats.trigger
from eventfn.clock import SystemClock
from eventfn.errors import ConnectorError
from eventfn.event import Record
from eventfn.testing import eventually, trigger_context
from eventfn.trigger import DONE, Retry, Settlement
from eventfn.units import Duration
from eventfn_nats import NatsTrigger
from eventfn_nats.settings import Clusters, Source
from tests.connectors.ledger import Ledger
from tests.servers.nats import NatsServer
from tests.servers.proxy import Proxy

MANY = 400


@pytest.fixture
async def trigger(proxy: Proxy, stream: str, tmp_path: Path) -> AsyncIterator[NatsTrigger]:
    """Behind the proxy. What an answer that was lost had in it comes again after a second."""
    trigger = NatsTrigger(
        Source(stream=stream, visibility_timeout=Duration(1)),
        Clusters(servers=(f"nats://{proxy.host}:{proxy.port}",)),
        trigger_context(tmp_path, clock=SystemClock()),
    )
    await trigger.connect()
    yield trigger
    await trigger.close(2)


async def put(peer: Any, stream: str, count: int = MANY) -> list[str]:
    return [str(await peer.publish(f"{stream}.new", str(number).encode())) for number in range(count)]


async def test_connections_that_are_cut_lose_nothing(
    trigger: NatsTrigger, proxy: Proxy, peer: Any, stream: str
) -> None:
    ids = await put(peer, stream)
    ledger = Ledger(trigger)
    running = asyncio.ensure_future(ledger.run(MANY))
    chance = random.Random(1)
    while not running.done() and len(ledger.failures) < 8:
        await asyncio.sleep(chance.random() / 50)
        proxy.cut()
    await running
    assert ledger.failures
    ledger.check(ids)


async def test_answers_that_end_in_the_middle_lose_nothing(
    trigger: NatsTrigger, proxy: Proxy, peer: Any, stream: str
) -> None:
    ids = await put(peer, stream)
    chance = random.Random(2)
    broken = 0

    def hurt(link: Any) -> None:
        nonlocal broken
        if broken < 8:
            broken += 1
            link.truncate("down", chance.randrange(200, 6000))

    proxy.on_connect = hurt
    proxy.cut()
    ledger = Ledger(trigger)
    await ledger.run(MANY)
    assert ledger.failures
    ledger.check(ids)


async def test_a_network_that_says_nothing_is_noticed(
    trigger: NatsTrigger, proxy: Proxy, peer: Any, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventfn_nats.trigger, "LONG_POLL", 0.2)
    monkeypatch.setattr(eventfn_nats.inbox, "PATIENCE", 0.2)
    reading = asyncio.ensure_future(trigger.read(10))
    await eventually(lambda: any(link.passed["up"] for link in proxy.links))
    proxy.stall()
    with pytest.raises(ConnectorError, match="no answer within"):
        await asyncio.wait_for(reading, 60)
    began = time.monotonic()
    await trigger.close(1)
    assert time.monotonic() - began < 5
    proxy.flow()
    ids = await put(peer, stream, 3)
    await trigger.connect()
    ledger = Ledger(trigger)
    await ledger.run(3)
    ledger.check(ids)


async def test_a_server_that_is_killed_in_the_middle_loses_nothing(
    trigger: NatsTrigger, server: NatsServer, peer: Any, stream: str
) -> None:
    ids = await put(peer, stream)
    handled = itertools.count(1)

    def fate(record: Record) -> Settlement:
        if next(handled) in (90, 210, 330):  # its batch is in hand, and the next one on its way
            server.kill()
            server.start()
        return DONE

    ledger = Ledger(trigger, fate)
    await ledger.run(MANY)
    assert ledger.failures
    # It writes down what was acknowledged every now and then, also where it syncs every message.
    ledger.check(ids, forgetful=True)


async def test_a_slow_network_only_takes_longer(trigger: NatsTrigger, proxy: Proxy, peer: Any, stream: str) -> None:
    proxy.delay = 0.02
    ids = await put(peer, stream, 50)
    ledger = Ledger(trigger)
    await ledger.run(50)
    ledger.check(ids)
    assert set(ledger.handled.values()) == {1}


async def test_one_record_in_ten_fails_at_first_and_three_nodes_share_the_rest(
    proxy: Proxy, peer: Any, stream: str, tmp_path: Path
) -> None:
    tries: dict[str, int] = {}

    def fate(record: Record) -> Settlement:
        tries[record.id] = tries.get(record.id, 0) + 1
        return Retry(after=0.01) if int(record.id) % 10 == 0 and tries[record.id] < 3 else DONE

    ids = await put(peer, stream)
    shared = Clusters(servers=(f"nats://{proxy.host}:{proxy.port}",))
    triggers = [
        NatsTrigger(Source(stream=stream), shared, trigger_context(tmp_path, clock=SystemClock())) for _ in range(3)
    ]
    ledgers = [Ledger(trigger, fate) for trigger in triggers]
    for trigger in triggers:
        await trigger.connect()
    running = [asyncio.ensure_future(ledger.run(MANY, 7)) for ledger in ledgers]
    await eventually(lambda: sum(len(ledger.settled) for ledger in ledgers) >= MANY, within=60)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    settled = [entry for ledger in ledgers for entry in ledger.settled.elements()]
    assert sorted(settled) == sorted(ids)
    assert await triggers[0].pending() == 0
    for trigger in triggers:
        await trigger.close(2)


async def test_messages_of_a_megabyte_come_whole_and_are_not_kept(trigger: NatsTrigger, peer: Any, stream: str) -> None:
    big = b"x" * 1_048_576
    for _ in range(30):
        await peer.publish(f"{stream}.new", big)
    tracemalloc.start()
    try:
        for _ in range(10):
            batch = await trigger.read(3)
            assert all(len(record.payload) > len(big) for record in batch.records)
            await trigger.settle(batch, [DONE] * len(batch.records))
            del batch
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 5 * len(big)
