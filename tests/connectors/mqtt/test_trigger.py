"""What MQTT does in its own way: sessions, retained messages, shared subscriptions, quality of service, refusals."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from eventfn.clock import SystemClock
from eventfn.errors import ConnectorError, EngineFull
from eventfn.event import Batch, Record
from eventfn.testing import FakeClock, eventually, memory_queues, trigger_context
from eventfn.testing.contexts import MemoryPositions
from eventfn.trigger import DONE, RETRY, QueueMessage, Queues, Reject, Retry
from eventfn_mqtt import MqttTrigger, connection
from eventfn_mqtt.settings import Brokers, Subscription
from tests.connectors.mqtt.conftest import Peer
from tests.servers.mosquitto import Mosquitto
from tests.servers.proxy import Proxy


class Bench:
    def __init__(self, server: Mosquitto, folder: Path, queues: Queues, clock: FakeClock) -> None:
        self.broker = Brokers(url=f"mqtt://{server.host}:{server.port}")
        self.queues = queues
        self.clock = clock
        self.positions = MemoryPositions()
        self._folder = folder
        self._made: list[MqttTrigger] = []

    def make(self, client_id: str, *topics: str, **settings: Any) -> MqttTrigger:
        context = trigger_context(self._folder, clock=self.clock, queues=self.queues, positions=self.positions)
        trigger = MqttTrigger(Subscription(client_id=client_id, topics=[*topics], **settings), self.broker, context)
        self._made.append(trigger)
        return trigger

    async def opened(self, client_id: str, *topics: str, **settings: Any) -> MqttTrigger:
        trigger = self.make(client_id, *topics, **settings)
        await trigger.connect()
        return trigger

    async def close(self) -> None:
        for trigger in self._made:
            await trigger.close(5)


@pytest_asyncio.fixture
async def bench(server: Mosquitto, tmp_path: Path) -> AsyncIterator[Bench]:
    clock = FakeClock()
    async with memory_queues(clock) as queues:
        bench = Bench(server, tmp_path, queues, clock)
        yield bench
        await bench.close()


def shown(record: Record) -> dict[str, Any]:
    decoded: dict[str, Any] = msgspec.json.decode(record.payload)
    return decoded


def payloads(batch: Batch) -> list[str]:
    return [shown(record)["payload"] for record in batch.records]


async def read_all(trigger: MqttTrigger, count: int) -> list[str]:
    """Reads and finishes so many."""
    found: list[str] = []
    while len(found) < count:
        batch = await asyncio.wait_for(trigger.read(100), 60)
        found += payloads(batch)
        await trigger.settle(batch, [DONE] * len(batch.records))
    return found


async def nothing_comes(trigger: MqttTrigger, peer: Peer, topic: str) -> bool:
    """Whether what is published last comes first."""
    await peer.client.publish(topic, b"last", qos=1)
    return await read_all(trigger, 1) == ["last"]


async def test_what_version_5_knows_of_a_message_arrives(bench: Bench, peer: Peer, topic: str) -> None:
    trigger = await bench.opened(topic, topic, qos=2)
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ContentType = "text/plain"
    properties.ResponseTopic = "answers"
    properties.CorrelationData = b"\xff"
    properties.UserProperty = [("a", "b")]
    await peer.client.publish(topic, "ü", qos=2, properties=properties)
    (record,) = (await trigger.read(10)).records
    seen = shown(record)
    assert (seen["topic"], seen["payload"], seen["qos"], seen["retain"]) == (topic, "ü", 2, False)
    assert seen["messageId"] == record.id
    assert seen["properties"] == {
        "contentType": "text/plain",
        "responseTopic": "answers",
        "correlationData": "/w==",
        "userProperties": [{"name": "a", "value": "b"}],
    }
    assert record.group == topic


async def test_wildcards_and_sizes(bench: Bench, peer: Peer, topic: str) -> None:
    trigger = await bench.opened(topic, f"{topic}/+/warm", f"{topic}/all/#")
    for name in ("1/warm", "2/cold", "2/warm", "all", "all/a/b"):
        await peer.client.publish(f"{topic}/{name}", name, qos=1)
    assert await read_all(trigger, 4) == ["1/warm", "2/warm", "all", "all/a/b"]
    await peer.client.publish(f"{topic}/all", b"x" * (1 << 20), qos=1)
    assert await read_all(trigger, 1) == ["x" * (1 << 20)]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_retained_message_says_that_it_is_old(bench: Bench, peer: Peer, topic: str, protocol: Any) -> None:
    bench.broker = Brokers(url=bench.broker.url, protocol=protocol)
    await peer.client.publish(topic, "old", qos=1, retain=True)
    trigger = await bench.opened(topic, topic)
    batch = await trigger.read(10)
    assert [(shown(record)["payload"], shown(record)["retain"]) for record in batch.records] == [("old", True)]
    await trigger.settle(batch, [DONE])
    await peer.client.publish(topic, "new", qos=1, retain=True)
    batch = await trigger.read(10)
    assert [(shown(record)["payload"], shown(record)["retain"]) for record in batch.records] == [("new", False)]
    await trigger.settle(batch, [DONE])
    if protocol == "5":
        await trigger.connect()
        assert await nothing_comes(trigger, peer, topic), "the subscription is not new: nothing comes twice"


async def test_a_topic_that_is_taken_out_is_unsubscribed_from(bench: Bench, peer: Peer, topic: str) -> None:
    first = await bench.opened(topic, f"{topic}/a", f"{topic}/b")
    await first.close(5)
    await peer.client.publish(f"{topic}/a", "while away", qos=1)
    second = await bench.opened(topic, f"{topic}/b", f"{topic}/c")
    await peer.client.publish(f"{topic}/a", "unwanted", qos=1)
    await peer.client.publish(f"{topic}/c", "new", qos=1)
    assert await read_all(second, 2) == ["while away", "new"]


async def test_two_share_a_subscription(bench: Bench, peer: Peer, topic: str) -> None:
    triggers = [await bench.opened(f"{topic}-{number}", f"$share/group/{topic}") for number in range(2)]
    for number in range(10):
        await peer.client.publish(topic, str(number), qos=1)
    found = [await read_all(trigger, 5) for trigger in triggers]
    assert sorted(found[0] + found[1]) == [str(number) for number in range(10)]


async def test_of_quality_of_service_0_so_many_are_kept_and_the_rest_waits_in_the_network(
    bench: Bench, proxy: Proxy, peer: Peer, topic: str
) -> None:
    bench.broker = Brokers(url=f"mqtt://{proxy.host}:{proxy.port}")
    trigger = await bench.opened(topic, topic, receive_maximum=5)
    flood, size = 500, 10_000
    for _ in range(flood):
        await peer.client.publish(topic, b"x" * size, qos=0)
    await peer.client.publish("other", b"", qos=1)  # the broker has them all
    (link,) = proxy.links
    await eventually(lambda: link.passed["down"] > 10 * size)
    batch = await trigger.read(100)
    assert len(batch.records) == 6
    await trigger.settle(batch, [DONE] * 6)
    found = await read_all(trigger, 50)
    assert len(found) >= 50


# --- failures ---------------------------------------------------------------------------------------------------------


async def test_a_failed_message_rests_and_its_topic_with_it(bench: Bench, peer: Peer, topic: str) -> None:
    trigger = await bench.opened(topic, f"{topic}/#", retry_delay=5)
    await peer.client.publish(f"{topic}/a", "a1", qos=1)
    first = await trigger.read(10)
    await peer.client.publish(f"{topic}/a", "a2", qos=1)
    await peer.client.publish(f"{topic}/b", "b1", qos=1)
    await trigger.settle(first, [RETRY])
    assert await read_all(trigger, 1) == ["b1"]
    await bench.clock.advance(5)
    again = await trigger.read(10)
    assert [(shown(record)["payload"], record.receives) for record in again.records] == [("a1", 2), ("a2", 1)]
    assert again.records[0].id == first.records[0].id


async def test_what_failed_too_often_is_a_dead_letter(bench: Bench, peer: Peer, topic: str) -> None:
    trigger = await bench.opened(topic, topic, max_receive_count=2)
    await peer.client.publish(topic, "poison", qos=1)
    batch = await trigger.read(10)
    await trigger.settle(batch, [Retry(after=0)])  # given back, not failed
    for _ in range(2):
        batch = await trigger.read(10)
        await trigger.settle(batch, [RETRY])
        await bench.clock.advance(1)
    (kept,) = await bench.queues.receive("dead-letters", 10)
    assert msgspec.json.decode(kept.body)["Records"][0]["payload"] == "poison"
    assert kept.attributes == {
        "eventfn.origin": "fn:hello",
        "eventfn.reason": "the function failed on it 2 times",
    }
    await trigger.connect()
    assert await nothing_comes(trigger, peer, topic)


async def test_what_is_rejected_is_a_dead_letter_and_stays_while_it_cannot_be_kept(
    bench: Bench, peer: Peer, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Full:
        full = True
        sent: list[QueueMessage] = []  # noqa: RUF012

        async def send(self, queue: str, messages: list[QueueMessage]) -> list[str]:
            if self.full:
                raise EngineFull("the disk is full")
            self.sent += messages
            return ["1"]

    full: Any = Full()
    bench.queues = full
    trigger = await bench.opened(topic, topic)
    await peer.client.publish(topic, "too large", qos=1)
    await trigger.settle(await trigger.read(10), [Reject("no")])
    assert "stays with the broker" in caplog.text
    await bench.clock.advance(1)
    again = await trigger.read(10)
    full.full = False
    await trigger.settle(again, [Reject("no")])
    assert [message.attributes["eventfn.reason"] for message in full.sent] == ["no"]
    await trigger.connect()
    assert await nothing_comes(trigger, peer, topic)


@pytest.mark.parametrize("qos", [1, 2])
async def test_what_is_done_after_something_that_is_not_comes_again_with_it(
    bench: Bench, peer: Peer, topic: str, qos: int
) -> None:
    trigger = await bench.opened(topic, f"{topic}/#", qos=qos)
    for name in ("a", "b", "c"):
        await peer.client.publish(f"{topic}/{name}", name, qos=qos)
    batches: list[Batch] = []
    while sum(len(batch.records) for batch in batches) < 3:
        batches.append(await trigger.read(1))
    for batch in (batches[0], batches[2]):
        await trigger.settle(batch, [DONE])
    await trigger.connect()
    # Acknowledgements go out in order: "c" is done, and waits for "b".
    assert await read_all(trigger, 2) == ["b", "c"]
    await trigger.connect()
    assert await nothing_comes(trigger, peer, f"{topic}/d")


# --- who is refused, and who is thrown out ----------------------------------------------------------------------------


async def test_two_with_one_name_throw_each_other_out_and_say_so(bench: Bench, topic: str) -> None:
    first = await bench.opened(topic, topic)
    await bench.opened(topic, topic)
    with pytest.raises(ConnectorError, match="the same client_id"):
        await asyncio.wait_for(first.read(10), 60)


@contextlib.asynccontextmanager
async def saying(*packets: str) -> AsyncIterator[Brokers]:
    """A server that says so, whatever it is told."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for packet in packets:
            await reader.read(1000)
            writer.write(bytes.fromhex(packet))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say, "127.0.0.1", 0)
    yield Brokers(url=f"mqtt://user:hidden-word@127.0.0.1:{server.sockets[0].getsockname()[1]}")
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    ("packet", "said"),
    [
        ("f000", "cannot connect to the MQTT broker"),
        ("20020001", "this version of MQTT is not supported"),
        ("2003008600", "bad user name or password"),
        ("2003008900", "server busy"),
    ],
)
async def test_a_refusal_is_a_connector_error_and_repeats_no_password(bench: Bench, packet: str, said: str) -> None:
    async with saying(packet) as bench.broker:
        with pytest.raises(ConnectorError, match=said) as refused:
            await bench.make("c", "a").connect()
        assert "hidden-word" not in str(refused.value)


async def test_a_broker_of_another_version_that_says_nothing_is_a_hint(bench: Bench) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    bench.broker = Brokers(url=f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    with pytest.raises(ConnectorError, match=r"does not speak version 5, set `protocol`|reset"):
        await bench.make("c", "a").connect()
    server.close()
    await server.wait_closed()


async def test_a_subscription_that_is_refused_is_named(bench: Bench) -> None:
    async with saying("2003000000", "9004000100" + "87") as bench.broker:
        with pytest.raises(ConnectorError, match="refuses a subscription to secret/#: not authorized"):
            await bench.make("c", "secret/#").connect()


async def test_a_broker_that_grants_less_is_told_of(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    async with saying("2003000000", "9004000100" + "00") as bench.broker:
        trigger = await bench.opened("c", "a")
        assert "grants a no more than quality of service 0" in caplog.text
        await trigger.close(5)


async def test_a_broker_that_says_goodbye_says_why(bench: Bench) -> None:
    async with saying("2003000000", "9004000100" + "01" + "e0018b") as bench.broker:
        trigger = await bench.opened("c", "a")
        with pytest.raises(ConnectorError, match="server shutting down"):
            await asyncio.wait_for(trigger.read(10), 60)
        await trigger.close(5)


async def test_a_network_that_is_silent_is_noticed(
    bench: Bench, proxy: Proxy, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "KEEP_ALIVE", 2)
    bench.broker = Brokers(url=f"mqtt://{proxy.host}:{proxy.port}")
    trigger = await bench.opened(topic, topic)
    reading = asyncio.ensure_future(trigger.read(10))
    proxy.stall()
    with pytest.raises(ConnectorError, match="the broker is silent"):
        await asyncio.wait_for(reading, 60)
    proxy.flow()
    await trigger.connect()


async def test_an_idle_connection_is_kept_alive(
    bench: Bench, peer: Peer, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "KEEP_ALIVE", 1)  # the broker ends it after 1.5 s without a ping
    trigger = await bench.opened(topic, topic)
    reading = asyncio.ensure_future(trigger.read(10))
    await SystemClock().sleep(2.5)
    await peer.client.publish(topic, "still here", qos=1)
    assert payloads(await reading) == ["still here"]
