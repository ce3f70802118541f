"""One broker for all tests, and the other side of it: who makes topics, puts records in, and looks at offsets."""

from __future__ import annotations

import importlib
import itertools
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_asyncio

from eventfn_kafka.library import Partition, aiokafka
from tests.servers.kafka import Kafka, Listener, free_port, make_topic, missing, running_kafka
from tests.servers.needed import need

admin: Any = importlib.import_module("aiokafka.admin")

_names = (f"topic-{number}" for number in itertools.count())
PASSWORD = "s3cret-of-alice"


class Broker(NamedTuple):
    kafka: Kafka
    proxied: Listener  # clients are told the port of a proxy, which a test puts there
    sasl: Listener
    tls: Listener  # asks for a client's certificate
    both: Listener
    certificates: Path  # ca.pem, client.pem and client.key


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Broker]:
    need(missing())
    folder = tmp_path_factory.mktemp("kafka")
    certificates = _certificates(folder / "certificates")
    proxied = Listener("PROXIED", "PLAINTEXT", free_port(), free_port())
    sasl, tls, both = (
        Listener(name, protocol, port, port)
        for name, protocol, port in (
            ("SASL", "SASL_PLAINTEXT", free_port()),
            ("TLS", "SSL", free_port()),
            ("BOTH", "SASL_SSL", free_port()),
        )
    )
    stores = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates / "ca.pem"),
        "listener.name.tls.ssl.client.auth": "required",
    }
    security = "org.apache.kafka.common.security"
    for name in ("sasl", "both"):
        own = f"listener.name.{name}"
        stores |= {
            f"{own}.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            f"{own}.plain.sasl.jaas.config": f'{security}.plain.PlainLoginModule required user_alice="{PASSWORD}";',
            f"{own}.scram-sha-256.sasl.jaas.config": f"{security}.scram.ScramLoginModule required;",
            f"{own}.scram-sha-512.sasl.jaas.config": f"{security}.scram.ScramLoginModule required;",
        }
    users = [f"SCRAM-SHA-{size}=[name=alice,password={PASSWORD}]" for size in (256, 512)]
    async with running_kafka(folder, settings=stores, listeners=(proxied, sasl, tls, both), scram=users) as kafka:
        yield Broker(kafka, proxied, sasl, tls, both, certificates)


def _certificates(folder: Path) -> Path:
    """A certificate authority, and what it signed: the broker's certificate for 127.0.0.1, and a client's."""
    folder.mkdir()

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=tests")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1")
    for name in ("broker", "client"):
        openssl("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed_by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", *signed_by, "-out", f"{name}.pem")
    (folder / "broker.pem").write_text((folder / "broker.key").read_text() + (folder / "broker.pem").read_text())
    return folder


class Peer:
    """The other side of a cluster. It goes through no proxy."""

    def __init__(self, bootstrap: Sequence[str]) -> None:
        self.bootstrap = list(bootstrap)
        self._admin: Any = None
        self._producer: Any = None

    async def create(
        self, partitions: int = 1, configs: Mapping[str, str] | None = None, copies: int = 1, name: str | None = None
    ) -> str:
        topic = name or next(_names)
        await make_topic(self.bootstrap[0], topic, partitions, copies, configs)
        return topic

    async def admin(self) -> Any:
        if self._admin is None:
            self._admin = admin.AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            await self._admin.start()
        return self._admin

    async def producer(self) -> Any:
        if self._producer is None:
            self._producer = aiokafka.AIOKafkaProducer(
                bootstrap_servers=self.bootstrap, acks="all", enable_idempotence=True, max_request_size=4 << 20
            )
            await self._producer.start()
        return self._producer

    async def put(self, topic: str, value: bytes | None, key: bytes | None = None, **more: Any) -> int:
        """The offset."""
        sent = await (await self.producer()).send_and_wait(topic, value, key=key, **more)
        offset: int = sent.offset
        return offset

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """What is committed of each partition that has something."""
        found = await (await self.admin()).list_consumer_group_offsets(group)
        return {
            each.partition: offset.offset
            for each, offset in found.items()
            if each.topic == topic and offset.offset >= 0
        }

    async def ends(self, topic: str, partitions: int) -> dict[int, int]:
        consumer = aiokafka.AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        await consumer.start()
        try:
            ends = await consumer.end_offsets([Partition(topic, number) for number in range(partitions)])
        finally:
            await consumer.stop()
        return {each.partition: offset for each, offset in ends.items()}

    async def close(self) -> None:
        if self._producer is not None:
            await self._producer.stop()
        if self._admin is not None:
            await self._admin.close()


@pytest_asyncio.fixture
async def peer(broker: Broker) -> AsyncIterator[Peer]:
    peer = Peer(broker.kafka.bootstrap)
    yield peer
    await peer.close()
