"""What the suite does not ask: where a group starts, who it connects as, and topics that change."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventfn.clock import SystemClock
from eventfn.destination import OutgoingRecord, Written
from eventfn.errors import ConnectorError
from eventfn.testing import destination_context, trigger_context
from eventfn.testing.stream_host import StreamHost
from eventfn.trigger import Start
from eventfn_kafka import KafkaDestination, KafkaTrigger
from eventfn_kafka.library import Partition, aiokafka, errors
from eventfn_kafka.settings import Cluster, Clusters, KafkaSettings
from tests.connectors.kafka.conftest import PASSWORD, Broker, Peer, admin
from tests.connectors.kafka.hosting import Ledger, Node, running, until_done
from tests.support import until

LATEST = Start("LATEST")
TRIM_HORIZON = Start("TRIM_HORIZON")


@pytest.fixture
def clusters(broker: Broker) -> Clusters:
    return Clusters(bootstrap_servers=tuple(broker.kafka.bootstrap))


def make(folder: Path, clusters: Clusters, *topics: str, start: Start = TRIM_HORIZON, **settings: Any) -> StreamHost:
    host = StreamHost(start, {})
    context = msgspec.structs.replace(trigger_context(folder, clock=SystemClock()), assignments=host)
    host.stream = KafkaTrigger(KafkaSettings(topics=topics, **settings), clusters, context)
    return host


async def offsets(host: StreamHost, count: int) -> list[int]:
    found: list[int] = []
    async with asyncio.timeout(60):
        while len(found) < count:
            shard, batch = await host.read(10)
            found += [msgspec.json.decode(record.payload)["offset"] for record in batch.records]
            await host.done(shard, *batch.records)
    return found


# --- where it starts -------------------------------------------------------------------------------------------------


async def test_after_latest_a_restart_misses_nothing(peer: Peer, clusters: Clusters, tmp_path: Path) -> None:
    topic = await peer.create()
    await peer.put(topic, b"before")
    first = make(tmp_path, clusters, topic, start=LATEST, group_id=topic)
    await first.connect()
    await first.close()  # nothing was read, nothing was done
    await peer.put(topic, b"while it was away")
    second = make(tmp_path, clusters, topic, start=LATEST, group_id=topic)
    await second.connect()
    assert await offsets(second, 1) == [1]
    await second.close()


async def test_a_timestamp_that_nothing_is_as_young_as_is_the_end(
    peer: Peer, clusters: Clusters, tmp_path: Path
) -> None:
    topic = await peer.create()
    await peer.put(topic, b"old")
    host = make(tmp_path, clusters, topic, start=Start("AT_TIMESTAMP", 4_000_000_000_000))
    await host.connect()
    await peer.put(topic, b"new")
    assert await offsets(host, 1) == [1]
    await host.close()


async def test_what_the_broker_has_deleted_is_skipped_and_told(
    peer: Peer, clusters: Clusters, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topic = await peer.create()
    for number in range(5):
        await peer.put(topic, b"%d" % number)
    first = make(tmp_path, clusters, topic)
    await first.connect()
    assert await offsets(first, 1) == [0, 1, 2, 3, 4]
    await first.close()
    for number in range(5, 10):
        await peer.put(topic, b"%d" % number)
    await (await peer.admin()).delete_records({Partition(topic, 0): admin.RecordsToDelete(before_offset=8)})
    second = make(tmp_path, clusters, topic)
    await second.connect()
    assert await offsets(second, 2) == [8, 9]
    assert f"{topic}-0: offset 5 is not there any more" in caplog.text
    await second.close()


async def test_a_function_is_its_own_group(peer: Peer, clusters: Clusters, tmp_path: Path) -> None:
    topic = await peer.create()
    await peer.put(topic, b"1")
    host = make(tmp_path, clusters, topic)
    await host.connect()
    await offsets(host, 1)
    assert await peer.committed("eventfn-hello", topic) == {0: 1}
    await host.close()


# --- topics that change ----------------------------------------------------------------------------------------------


async def test_a_topic_that_is_not_there_yet(peer: Peer, clusters: Clusters, tmp_path: Path) -> None:
    there = await peer.create()
    missing = f"{there}-later"
    host = make(tmp_path, clusters, there, missing, group_id=there)
    with pytest.raises(ConnectorError, match=f"has no topic {missing}, or"):
        await host.connect()
    await peer.create(name=missing)
    await peer.put(missing, b"1")
    await host.connect()
    assert set(host.shards) == {f"{there}-0", f"{missing}-0"}
    assert await offsets(host, 1) == [0]
    await host.close()


async def test_new_partitions_are_read_from_their_beginning(peer: Peer, clusters: Clusters, tmp_path: Path) -> None:
    ledger = Ledger(peer, await peer.create(), "group-of-new-partitions")
    node = Node(tmp_path, clusters, ledger, starting_position="LATEST")
    async with running(node):
        await until(lambda: node.shards, "it has its partition")
        await until(lambda: peer.committed(ledger.group, ledger.topic), "where it starts is kept")
        await (await peer.admin()).create_partitions({ledger.topic: admin.NewPartitions(3)})
        producer = await peer.producer()
        await producer.client.force_metadata_update()
        for number in range(30):
            await ledger.send(b"%d" % number, b"key-%d" % number)
        assert len(ledger.put) == 3
        consumer: Any = node.trigger._consumer
        await consumer._client.force_metadata_update()  # what happens within a minute by itself
        await until(lambda: len(node.shards) == 3, "it has the new ones")
        await until_done(ledger)


async def test_a_member_without_a_partition_hears_what_is_wrong_and_tries_again(
    peer: Peer, clusters: Clusters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfn_kafka.trigger._BEFORE_IT_TRIES_AGAIN", 0.1)
    ledger = Ledger(peer, await peer.create(), "group-that-refuses")
    busy, idle = Node(tmp_path, clusters, ledger), Node(tmp_path, clusters, ledger)
    async with running(busy):
        await until(lambda: busy.shards, "the first one has it")
        async with running(idle):
            await until(lambda: idle.host.status.connected, "the other one is a member")
            member = idle if not idle.shards else busy
            coordinator: Any = member.trigger._consumer._coordinator
            known, refusals = coordinator.ensure_coordinator_known, 3

            async def refuse() -> None:
                nonlocal refusals
                if refusals:
                    refusals -= 1
                    raise errors.GroupAuthorizationFailedError("group-that-refuses")
                await known()

            coordinator.ensure_coordinator_known = refuse
            coordinator.request_rejoin()
            await until(lambda: member.host.status.last_error, "status says so")
            assert "group-that-refuses" in str(member.host.status.last_error)
            assert not member.host.status.connected
            await until(lambda: not refusals, "it was refused, and tried again")
            await until(lambda: member.host.status.connected, "it is a member again")
            assert member.host.status.last_error is None
            await (busy if member is idle else idle).stop()
            await ledger.send(b"1")
            await until_done(ledger)
            assert member.shards


# --- who it is -------------------------------------------------------------------------------------------------------


def secured(broker: Broker, which: str, **more: Any) -> Clusters:
    folder = broker.certificates
    tls = {"tls": True, "ca_file": str(folder / "ca.pem")}
    own = {"certificate_file": str(folder / "client.pem"), "key_file": str(folder / "client.key")}
    port, keys = {
        "sasl": (broker.sasl.port, {}),
        "both": (broker.both.port, tls),
        "tls": (broker.tls.port, tls | own),
    }[which]
    settings: dict[str, Any] = {"bootstrap_servers": (f"127.0.0.1:{port}",), **keys, **more}
    return Clusters(**settings)


ALICE = {"username": "alice", "password": PASSWORD}


@pytest.mark.parametrize(
    ("which", "more"),
    [
        ("sasl", {"sasl_mechanism": "PLAIN", **ALICE}),
        ("sasl", {"sasl_mechanism": "SCRAM-SHA-256", **ALICE}),
        ("both", {"sasl_mechanism": "SCRAM-SHA-512", **ALICE}),
        ("tls", {}),
    ],
)
async def test_it_shows_who_it_is(broker: Broker, peer: Peer, tmp_path: Path, which: str, more: dict[str, Any]) -> None:
    clusters = secured(broker, which, **more)
    topic = await peer.create()
    destination = KafkaDestination(topic, clusters, destination_context(tmp_path))
    await destination.connect()
    assert await destination.write([OutgoingRecord("1", b"{}")]) == [Written()]
    await destination.close(5)
    host = make(tmp_path, clusters, topic)
    await host.connect()
    assert await offsets(host, 1) == [0]
    await host.close()


@pytest.mark.parametrize(
    ("which", "more", "why"),
    [
        ("sasl", {"sasl_mechanism": "PLAIN", "username": "alice", "password": "wr0ng-secret"}, "Authentication failed"),
        ("both", {"sasl_mechanism": "SCRAM-SHA-512", "username": "alice", "password": "wr0ng-secret"}, "invalid cred"),
        ("tls", {"ca_file": None}, "certificate verify failed"),  # the machine's authorities do not know the broker's
        ("tls", {"certificate_file": None, "key_file": None}, "Unable"),
        ("tls", {"ca_file": "nowhere.pem"}, "nowhere.pem"),
        ("sasl", {}, "closed"),
    ],
)
async def test_who_is_refused_is_told_so(
    broker: Broker,
    peer: Peer,
    tmp_path: Path,
    which: str,
    more: dict[str, Any],
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("eventfn_kafka.destination.REQUEST", 3.0)
    topic = await peer.create()
    clusters = secured(broker, which, **more)
    host = make(tmp_path, clusters, topic, rebalance_timeout=1)
    with pytest.raises(ConnectorError) as refused:
        await host.connect()
    assert "wr0ng-secret" not in str(refused.value)
    assert why in str(refused.value)
    await host.close()
    destination = KafkaDestination(topic, clusters, destination_context(tmp_path))
    with pytest.raises(ConnectorError) as refused:
        await destination.connect()
    assert "wr0ng-secret" not in str(refused.value)
    assert why in str(refused.value)
    await asyncio.sleep(0.1)  # the library closes a refused connection, and does not wait until it is


async def test_a_named_cluster(broker: Broker, peer: Peer, tmp_path: Path) -> None:
    topic = await peer.create()
    clusters = Clusters(
        bootstrap_servers=("127.0.0.1:1",),
        clusters={"other": Cluster(bootstrap_servers=tuple(broker.kafka.bootstrap))},
    )
    destination = KafkaDestination(f"other/{topic}", clusters, destination_context(tmp_path))
    await destination.connect()
    assert await destination.write([OutgoingRecord("1", b"{}")]) == [Written()]
    await destination.close(5)
    host = make(tmp_path, clusters, topic, cluster="other")
    await host.connect()
    assert await offsets(host, 1) == [0]
    await host.close()
    with pytest.raises(ConnectorError, match=r"no cluster is called 'nowhere'"):
        await make(tmp_path, clusters, topic, cluster="nowhere").connect()


# --- the destination -------------------------------------------------------------------------------------------------


async def test_a_record_has_its_id_and_its_attributes_with_it(peer: Peer, clusters: Clusters, tmp_path: Path) -> None:
    topic = await peer.create()
    destination = KafkaDestination(topic, clusters, destination_context(tmp_path))
    await destination.connect()
    await destination.write([OutgoingRecord("id-1", b'{"a":1}', {"RequestID": "r"})])
    await destination.close(5)
    consumer = aiokafka.AIOKafkaConsumer(topic, bootstrap_servers=peer.bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    record = await consumer.getone()
    await consumer.stop()
    assert (record.key, record.value) == (b"id-1", b'{"a":1}')
    assert record.headers == (("eventfn.id", b"id-1"), ("RequestID", b"r"))


async def test_what_is_too_large_together_is_written_one_by_one(peer: Peer, clusters: Clusters, tmp_path: Path) -> None:
    topic = await peer.create(configs={"max.message.bytes": "10000"})
    destination = KafkaDestination(topic, clusters, destination_context(tmp_path))
    await destination.connect()
    records = [OutgoingRecord(f"{number}", b'"' + b"x" * 4_000 + b'"') for number in range(5)]
    assert await destination.write(records) == [Written()] * 5
    assert await peer.ends(topic, 1) == {0: 5}
    await destination.close(5)
