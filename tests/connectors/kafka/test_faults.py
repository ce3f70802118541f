"""What goes wrong around a group: each test compares what was put in with what was handled and committed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from eventfn_kafka.library import aiokafka
from eventfn_kafka.settings import Clusters
from tests.connectors.kafka.conftest import Broker, Peer
from tests.connectors.kafka.hosting import Ledger, Node, running, until_done
from tests.servers.kafka import Kafka, missing, running_kafka
from tests.servers.needed import need
from tests.servers.proxy import Proxy
from tests.support import until


@pytest.fixture
def clusters(broker: Broker) -> Clusters:
    return Clusters(bootstrap_servers=tuple(broker.kafka.bootstrap))


async def ledger_of(peer: Peer, partitions: int = 3, **more: Any) -> Ledger:
    topic = await peer.create(partitions, **more)
    return Ledger(peer, topic, f"group-of-{topic}")


@contextlib.asynccontextmanager
async def sending(ledger: Ledger, pause: float = 0.005) -> AsyncIterator[None]:
    """Keyed records, one after the other, until the end of the block."""

    enough = asyncio.Event()

    async def send() -> None:
        for number in itertools.count():
            if enough.is_set():
                return
            await ledger.send(b"%d" % number, b"key-%d" % (number % 40))
            await asyncio.sleep(pause)

    task = asyncio.create_task(send())
    try:
        yield
    finally:
        enough.set()
        await task


async def slowly(records: list[dict[str, Any]]) -> None:
    await asyncio.sleep(0.02)


# --- the group -------------------------------------------------------------------------------------------------------


async def test_a_storm_of_rebalances_loses_nothing_and_repeats_nothing(
    peer: Peer, clusters: Clusters, tmp_path: Path
) -> None:
    ledger = await ledger_of(peer, partitions=6)
    first, *others = (Node(tmp_path, clusters, ledger, slowly) for _ in range(4))
    async with running(first), sending(ledger):
        await until(lambda: ledger.seen > 20, "the first node works alone")
        for node in others:
            node.start()
        await until(lambda: all(node.shards for node in others), "all have something to do")
        await ledger.check_commits()
        for leaving in others:
            before = ledger.seen
            await leaving.stop()
            await until(lambda before=before: ledger.seen > before, "the others go on")  # type: ignore[misc]
        await until(lambda: len(first.shards) == 6, "the first node has everything again")
        await ledger.check_commits()
    async with running(Node(tmp_path, clusters, ledger)):
        await until_done(ledger)
    assert ledger.repeats() == 0


async def test_a_member_that_is_cut_off_commits_nothing_any_more(
    broker: Broker, peer: Peer, clusters: Clusters, tmp_path: Path
) -> None:
    ledger = await ledger_of(peer)
    proxy = Proxy("127.0.0.1", broker.proxied.port)
    proxy.port = broker.proxied.advertised
    async with proxy:
        behind = Clusters(bootstrap_servers=(f"127.0.0.1:{proxy.port}",))
        cut_off = Node(tmp_path, behind, ledger, slowly, settings={"session_timeout": 2})
        other = Node(tmp_path, clusters, ledger, slowly, settings={"session_timeout": 2})
        async with running(cut_off), sending(ledger):
            await until(lambda: ledger.seen > 20, "the one node works")
            async with running(other):
                await until(lambda: cut_off.shards and other.shards, "both have something to do")
                proxy.stall()
                await until(lambda: len(other.shards) == 3, "the other one has everything")
                await ledger.check_commits()
                proxy.flow()
                await until(lambda: cut_off.shards and len(other.shards) < 3, "it is a member again")
                await ledger.check_commits()
        async with running(Node(tmp_path, clusters, ledger)):
            await until_done(ledger)


async def test_a_slow_partition_holds_up_no_other_and_stays_ours(
    peer: Peer, clusters: Clusters, tmp_path: Path
) -> None:
    ledger = await ledger_of(peer, partitions=2)
    go_on = asyncio.Event()

    async def stuck(records: list[dict[str, Any]]) -> None:
        if records[0]["partition"] == 0:
            await go_on.wait()

    node = Node(tmp_path, clusters, ledger, stuck, settings={"session_timeout": 1})
    producer = await peer.producer()
    async with running(node):
        for number in range(400):
            sent = await producer.send_and_wait(ledger.topic, b"x" * 20_000, partition=number % 2)
            ledger.put[sent.partition][sent.offset] = b"x" * 20_000
        await until(lambda: len(ledger.handled[1]) == 200, "the other partition is done")
        assert not ledger.handled[0]
        assert node.shards == {f"{ledger.topic}-0", f"{ledger.topic}-1"}
        go_on.set()
        await until_done(ledger)
    assert ledger.repeats() == 0


async def test_a_function_that_fails_now_and_then_handles_all_of_it_in_order(
    peer: Peer, clusters: Clusters, tmp_path: Path
) -> None:
    ledger = await ledger_of(peer)
    calls = itertools.count()

    async def fails(records: list[dict[str, Any]]) -> None:
        if next(calls) % 3 == 0:
            raise ValueError("not now")

    for number in range(100):
        await ledger.send(b"%d" % number, b"key-%d" % (number % 7))
    async with running(Node(tmp_path, clusters, ledger, fails)):
        await until_done(ledger)
    assert ledger.repeats() == 0


# --- brokers and the way to them ------------------------------------------------------------------------------------


async def test_a_network_that_is_cut_again_and_again(broker: Broker, peer: Peer, tmp_path: Path) -> None:
    ledger = await ledger_of(peer)
    proxy = Proxy("127.0.0.1", broker.proxied.port)
    proxy.port = broker.proxied.advertised
    async with proxy:
        behind = Clusters(bootstrap_servers=(f"127.0.0.1:{proxy.port}",))
        async with running(Node(tmp_path, behind, ledger, slowly)):
            async with sending(ledger):
                for cut in (proxy.cut, lambda: proxy.truncate("down", 1000), lambda: proxy.truncate("up", 100)):
                    before = ledger.seen
                    await until(lambda before=before: ledger.seen > before + 20, "it works")  # type: ignore[misc]
                    cut()
                    await ledger.check_commits()
            await until_done(ledger)


async def test_a_network_in_which_nothing_moves_is_noticed_and_left_behind(
    broker: Broker, peer: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("eventfn_kafka.reader._PULSE", 1.2)
    monkeypatch.setattr("eventfn_kafka.trigger.REQUEST", 1.0)
    ledger = await ledger_of(peer)
    proxy = Proxy("127.0.0.1", broker.proxied.port)
    proxy.port = broker.proxied.advertised
    async with proxy:
        node = Node(tmp_path, Clusters(bootstrap_servers=(f"127.0.0.1:{proxy.port}",)), ledger, slowly)
        async with running(node), sending(ledger, pause=0.05):
            await until(lambda: ledger.seen > 20, "it works")
            proxy.stall()
            await until(lambda: not node.host.status.connected, "it is down")
            assert f"no broker has answered for {ledger.topic}-" in (node.host.status.last_error or "")
            stalled = len(proxy.links)
            await until(lambda: len(proxy.links) > stalled, "another connection is tried")
            proxy.flow()
            before = ledger.seen
            await until(lambda: node.host.status.connected and ledger.seen > before + 20, "it works again")
            proxy.stall()
            await node.end()
            assert "cannot close" not in caplog.text, "its deadline holds without its brokers, too"
        async with running(Node(tmp_path, Clusters(bootstrap_servers=tuple(peer.bootstrap)), ledger)):
            await until_done(ledger)


async def test_a_broker_that_is_killed_in_mid_batch_and_comes_back(tmp_path: Path) -> None:
    need(missing())
    async with running_kafka(tmp_path / "kafka") as kafka, _peer(kafka) as peer:
        ledger = await ledger_of(peer)
        clusters = Clusters(bootstrap_servers=tuple(kafka.bootstrap))
        async with running(Node(tmp_path, clusters, ledger, slowly)):
            async with sending(ledger):
                await until(lambda: ledger.seen > 50, "it works")
                await kafka.nodes[0].kill()
                await kafka.nodes[0].start()
                before = ledger.seen
                await until(lambda: ledger.seen > before + 50, "it works again")
            await until_done(ledger)


async def test_a_cluster_of_three_that_loses_one(tmp_path: Path) -> None:
    need(missing())
    async with running_kafka(tmp_path / "kafka", nodes=3) as kafka, _peer(kafka) as peer:
        ledger = await ledger_of(peer, partitions=6, copies=3)
        clusters = Clusters(bootstrap_servers=tuple(kafka.bootstrap))
        async with running(*(Node(tmp_path, clusters, ledger, slowly) for _ in range(2))):
            async with sending(ledger):
                await until(lambda: ledger.seen > 50, "it works")
                await kafka.nodes[1].kill()
                before = ledger.seen
                await until(lambda: ledger.seen > before + 100, "it works with two")
                await until(lambda: len(ledger.handled) == 6, "every partition has a leader")
                await kafka.nodes[1].start()
            await until_done(ledger)


@contextlib.asynccontextmanager
async def _peer(kafka: Kafka) -> AsyncIterator[Peer]:
    peer = Peer(kafka.bootstrap)
    try:
        yield peer
    finally:
        await peer.close()


# --- what is in a topic ----------------------------------------------------------------------------------------------


async def test_records_of_one_megabyte(peer: Peer, clusters: Clusters, tmp_path: Path) -> None:
    ledger = await ledger_of(peer, partitions=1, configs={"max.message.bytes": "3000000"})
    for number in range(8):
        await ledger.send(bytes([number]) * 1024 * 1024)
    node = Node(tmp_path, clusters, ledger)
    async with running(node):
        await until_done(ledger)
    assert all(len(some) <= 4 for event in node.events for some in event["records"].values())  # 6 MB an event


async def test_what_a_transaction_took_back_is_never_seen(peer: Peer, clusters: Clusters, tmp_path: Path) -> None:
    ledger = await ledger_of(peer, partitions=1)
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=peer.bootstrap, transactional_id=ledger.topic)
    async with running(Node(tmp_path, clusters, ledger)):
        await producer.start()
        try:
            for number in range(6):
                await producer.begin_transaction()
                sent = await producer.send_and_wait(ledger.topic, b"%d" % number)
                if number % 2:
                    await producer.abort_transaction()
                else:
                    await producer.commit_transaction()
                    ledger.put[0][sent.offset] = b"%d" % number
        finally:
            await producer.stop()
        await until(lambda: ledger.seen == 3, "what was committed is handled")
        await ledger.send(b"last")
        await until_done(ledger)
