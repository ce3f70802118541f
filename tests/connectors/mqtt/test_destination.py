"""What a broker with users, rules and a certificate says to what is published: who may, how large, how encrypted."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import pytest_asyncio

from eventfn.destination import WRITTEN, OutgoingRecord, Rejected, RetryAfter
from eventfn.errors import ConnectorError
from eventfn.testing import destination_context, trigger_context
from eventfn.trigger import DONE
from eventfn_mqtt import MqttDestination, MqttTrigger
from eventfn_mqtt.settings import Brokers, Subscription
from tests.servers.mosquitto import Mosquitto, free_port, missing
from tests.servers.needed import need

RECORD = OutgoingRecord(id="record-1", payload=b"{}", attributes={"eventfn.origin": "fn:hello"})


class Guarded:
    """A broker with the user "ada", who may write below "open", and read all."""

    def __init__(self, server: Mosquitto, tls_port: int, ca_file: Path) -> None:
        self.server = server
        self.tls_port = tls_port
        self.ca_file = ca_file

    def plain(self, user: str = "ada:pass%40word", **settings: Any) -> Brokers:
        return Brokers(url=f"mqtt://{user}@{self.server.host}:{self.server.port}", **settings)

    def encrypted(self, **settings: Any) -> Brokers:
        return Brokers(url=f"mqtts://ada:pass%40word@localhost:{self.tls_port}", **settings)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    need(missing())
    folder = tmp_path_factory.mktemp("guarded")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    passwords, rules = folder / "passwords", folder / "rules"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "ada", "pass@word"], check=True)
    rules.write_text("user ada\ntopic read #\ntopic write open/#\n")
    tls_port = free_port()
    settings = [
        "allow_anonymous false",
        f"password_file {passwords}",
        f"acl_file {rules}",
        "max_packet_size 10000",
        f"listener {tls_port} 127.0.0.1",
        f"certfile {certificate}",
        f"keyfile {key}",
    ]
    with Mosquitto(folder / "server", *settings) as server:
        yield Guarded(server, tls_port, certificate)


class Opened:
    def __init__(self, folder: Path) -> None:
        self._context = destination_context(folder)
        self.made: list[MqttDestination] = []

    async def __call__(self, topic: str, broker: Brokers) -> MqttDestination:
        destination = MqttDestination(topic, broker, self._context)
        self.made.append(destination)
        await destination.connect()
        return destination


@pytest_asyncio.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Opened]:
    opened = Opened(tmp_path)
    yield opened
    for destination in opened.made:
        await destination.close(5)


async def test_a_record_says_what_it_is(guarded: Guarded, opened: Opened) -> None:
    host, port = guarded.server.host, guarded.server.port
    five = aiomqtt.ProtocolVersion.V5
    async with aiomqtt.Client(host, port, username="ada", password="pass@word", protocol=five) as peer:
        await peer.subscribe("open/a", qos=1)
        assert await (await opened("open/a", guarded.plain())).write([RECORD]) == [WRITTEN]
        message = await anext(peer.messages)
    assert message.payload == b"{}"
    assert message.qos == 1
    properties: Any = message.properties
    assert properties.ContentType == "application/json"
    assert dict(properties.UserProperty) == {"id": "record-1", "eventfn.origin": "fn:hello"}


async def test_a_topic_that_is_not_ours_is_rejected(guarded: Guarded, opened: Opened) -> None:
    (delivery,) = await (await opened("secret", guarded.plain())).write([RECORD])
    assert isinstance(delivery, Rejected)
    assert delivery.reason == "the broker does not take what goes to secret: not authorized"


async def test_a_record_that_is_too_large_is_rejected_and_the_others_are_not(guarded: Guarded, opened: Opened) -> None:
    large = OutgoingRecord(id="record-2", payload=b"x" * 9_980)
    deliveries = await (await opened("open/a", guarded.plain())).write([RECORD, large, RECORD])
    assert [type(delivery) for delivery in deliveries] == [type(WRITTEN), Rejected, type(WRITTEN)]
    assert isinstance(deliveries[1], Rejected)
    assert "packet too large" in deliveries[1].reason


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_wrong_password_is_not_repeated(guarded: Guarded, opened: Opened, protocol: Any) -> None:
    with pytest.raises(ConnectorError, match=r"not authorized|bad user name") as refused:
        await opened("open/a", guarded.plain("ada:hidden-word", protocol=protocol))
    assert "hidden-word" not in str(refused.value)


async def test_a_connection_is_encrypted(guarded: Guarded, opened: Opened, tmp_path: Path) -> None:
    broker = guarded.encrypted(ca_file=str(guarded.ca_file))
    trigger = MqttTrigger(Subscription(client_id="tls", topics=["open/tls"]), broker, trigger_context(tmp_path))
    await trigger.connect()
    assert await (await opened("open/tls", broker)).write([RECORD]) == [WRITTEN]
    batch = await trigger.read(10)
    assert len(batch.records) == 1
    await trigger.settle(batch, [DONE])
    await trigger.close(5)


async def test_a_certificate_of_nobody_is_not_trusted(guarded: Guarded, opened: Opened) -> None:
    with pytest.raises(ConnectorError, match="CERTIFICATE_VERIFY_FAILED"):
        await opened("open/a", guarded.encrypted())


async def test_a_file_that_is_not_there_is_named(guarded: Guarded, opened: Opened) -> None:
    with pytest.raises(ConnectorError, match="No such file"):
        await opened("open/a", guarded.encrypted(ca_file="nowhere.pem"))


async def test_a_broker_that_was_stopped_is_found_again(guarded: Guarded, opened: Opened) -> None:
    destination = await opened("open/a", guarded.plain())
    guarded.server.stop()
    try:
        (delivery,) = await destination.write([RECORD])
        assert isinstance(delivery, RetryAfter)
        with pytest.raises(ConnectorError):
            await destination.write([RECORD])
    finally:
        guarded.server.start()
    assert await destination.write([RECORD]) == [WRITTEN]
