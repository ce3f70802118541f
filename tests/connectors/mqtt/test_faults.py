"""The broker dies, the network breaks, while a node's own host and a function are at work: what was put in is compared
with what was handled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from eventfn.clock import SystemClock
from eventfn.event import Record
from eventfn.testing import trigger_context
from eventfn_mqtt import MqttTrigger
from eventfn_mqtt.settings import Brokers, Subscription
from tests.connectors.at_work import AtWork, Faults, at_work
from tests.connectors.mqtt.conftest import Peer
from tests.servers.mosquitto import Mosquitto
from tests.servers.proxy import Proxy

EVENTS = 300


class Bench:
    """A session at the broker, and messages that wait in it, on three topics."""

    def __init__(self, folder: Path, proxy: Proxy, topic: str, qos: int) -> None:
        self._settings = Subscription(client_id=f"{topic}-faults", topics=[f"{topic}/+"], qos=qos)
        self._topic = topic
        self._qos = qos
        broker = Brokers(url=f"mqtt://{proxy.host}:{proxy.port}")
        self.trigger = MqttTrigger(self._settings, broker, trigger_context(folder, clock=SystemClock()))

    async def fill(self, peer: Peer) -> None:
        await self.trigger.connect()
        await self.trigger.close(5)
        for number in range(EVENTS):
            await peer.client.publish(f"{self._topic}/{number % 3}", str(number), qos=self._qos)

    async def run(self, faults: Faults) -> AtWork:
        async with at_work(self.trigger, self._settings, faults, number_of) as work:
            await work.has_done(EVENTS)
        assert not work.settled_twice
        assert {int(number) for number in work.handled} == set(range(EVENTS))
        return work


def number_of(record: Record) -> str:
    number: str = msgspec.json.decode(record.payload)["payload"]
    return number


def assert_order(work: AtWork) -> None:
    """What was handled for the first time, of each topic in its order."""
    first = [int(number) for number in dict.fromkeys(work.handled)]
    for remainder in range(3):
        of_topic = [number for number in first if number % 3 == remainder]
        assert of_topic == sorted(of_topic)


@pytest.fixture(params=[1, 2])
def qos(request: pytest.FixtureRequest) -> int:
    level: int = request.param
    return level


@pytest_asyncio.fixture
async def bench(tmp_path: Path, proxy: Proxy, topic: str, qos: int, peer: Peer) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path, proxy, topic, qos)
    await bench.fill(peer)
    yield bench
    await bench.trigger.close(5)


async def test_without_faults_each_message_is_handled_once_and_in_order(bench: Bench) -> None:
    work = await bench.run({})
    assert len(work.handled) == EVENTS
    assert set(work.done.values()) == {1}
    assert_order(work)


async def test_a_broker_that_is_killed_in_mid_batch_loses_nothing(
    bench: Bench, server: Mosquitto, proxy: Proxy
) -> None:
    async def kill_and_start() -> None:
        server.save()  # what it has not written to disk it loses, whoever asks
        server.kill()
        await proxy.refuse()
        await asyncio.to_thread(server.start)
        await proxy.accept()

    async def stop_and_start() -> None:
        server.stop()
        await asyncio.to_thread(server.start)

    assert_order(await bench.run({73: kill_and_start, 171: stop_and_start}))


async def test_a_network_that_is_cut_again_and_again_loses_nothing(bench: Bench, proxy: Proxy) -> None:
    async def cut() -> None:
        proxy.cut()

    async def truncate() -> None:
        proxy.truncate("down", 100)
        proxy.truncate("up", 5)

    async def drop() -> None:
        proxy.drop("down", 7)  # half a packet is missing: what follows it is none

    assert_order(await bench.run({31: cut, 95: truncate, 160: drop, 201: cut, 202: cut}))
