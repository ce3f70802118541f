"""Apache Kafka on loopback: the real broker, KRaft, as Maven Central has it, on the machine's Java.

    async with running_kafka(folder) as kafka:    # one node; nodes=3 for a cluster
        client.connect(kafka.bootstrap)
        await kafka.nodes[0].kill()               # SIGKILL; `await kafka.nodes[0].start()`: same port, same data
        kafka.nodes[0].pause()                    # SIGSTOP; `resume()` ends that

`python -m tests.servers.kafka` fetches the jars, once, below ~/.cache/eventfn-tests (or $XDG_CACHE_HOME).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import importlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

VERSION = "4.1.0"
_CLASSES = "classes.jsa"
PATIENCE = 90.0  # seconds that a broker may take on a busy machine

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""
# A small heap and the cheapest collector and compiler: a broker of a test lives for a minute.
_JAVA = (
    *("java", "-Xmx256m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"),
    *("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true"),
)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eventfn-tests" / f"kafka-{VERSION}"


def missing() -> str | None:
    """What must be done before a broker can be started; None when nothing must."""
    if shutil.which("java") is None:
        return "apt-get install openjdk-17-jre-headless"
    if not (_cache() / "jars").is_dir():
        return "python -m tests.servers.kafka"
    return None


def fetch() -> None:
    """The jars, from Maven Central (or the mirror that Maven's settings name). Nothing is left half done."""
    cache = _cache()
    if not (cache / "jars").is_dir():
        _fetch_jars(cache)
    if not (cache / _CLASSES).exists():
        asyncio.run(_keep_classes(cache))


def _fetch_jars(cache: Path) -> None:
    if shutil.which("mvn") is None:
        sys.exit("maven is missing: apt-get install maven openjdk-17-jre-headless")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        Path(folder, "pom.xml").write_text(_POM)
        goal = ("dependency:copy-dependencies", "-DoutputDirectory=jars", "-DincludeScope=runtime")
        subprocess.run(["mvn", "-q", "-B", *goal], cwd=folder, check=True)
        Path(folder, "jars").rename(cache / "jars")


async def _keep_classes(cache: Path) -> None:
    """The classes of a broker as the virtual machine holds them in memory: with these it starts in half the time."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, _CLASSES)
        async with running_kafka(Path(folder, "kafka"), java=(f"-XX:ArchiveClassesAtExit={made}",)) as kafka:
            await kafka.nodes[0].stop()
        shutil.copy(made, cache / f"{_CLASSES}.new")
        (cache / f"{_CLASSES}.new").rename(cache / _CLASSES)


def _java(*arguments: str) -> list[str]:
    classes = _cache() / _CLASSES  # another virtual machine than the one that made them does without
    known = [f"-XX:SharedArchiveFile={classes}"] if classes.exists() else []
    return [*_JAVA, *known, "-cp", os.pathsep.join(sorted(map(str, (_cache() / "jars").glob("*.jar")))), *arguments]


def _address(listener: Listener, port: int) -> str:
    return f"{listener.name}://127.0.0.1:{port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Node:
    """One broker that is its cluster's controller too. Its ports and its data stay the same through its restarts."""

    def __init__(self, number: int, folder: Path, port: int, java: Sequence[str]) -> None:
        self.number = number
        self._java = java
        self.port = port
        self.data = folder / f"kafka-{number}"
        self.log = folder / f"kafka-{number}.log"
        self.properties = folder / f"kafka-{number}.properties"
        self._process: subprocess.Popen[bytes] | None = None

    def spawn(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                _java(*self._java, "kafka.Kafka", str(self.properties)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def until_up(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                assert self._process is not None, "it was not started"
                assert self._process.poll() is None, f"the broker has ended:\n{self.log.read_text()[-4000:]}"
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    await writer.wait_closed()
                    return
                await asyncio.sleep(0.05)

    async def start(self) -> None:
        self.spawn()
        await self.until_up()

    async def kill(self) -> None:
        """kill -9: nothing is told, nothing is flushed."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        await self._end(signal.SIGTERM)

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
            await asyncio.to_thread(process.wait, PATIENCE)


class Listener(NamedTuple):
    """One more address of a cluster of one node, beside the plain one."""

    name: str
    protocol: str  # PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL
    port: int
    advertised: int  # what clients are told: the port itself, or that of a proxy in front of it


class Kafka:
    """A cluster; `bootstrap` names the listener of every node that needs no credentials."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes

    @property
    def bootstrap(self) -> list[str]:
        return [f"127.0.0.1:{node.port}" for node in self.nodes]


def _format(node: Node, cluster_id: str, scram: Sequence[str]) -> None:
    users = [argument for user in scram for argument in ("--add-scram", user)]
    tool = _java("kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(node.properties), *users)
    formatted = subprocess.run(tool, capture_output=True, text=True, check=False)
    assert formatted.returncode == 0, formatted.stderr


def _copy_format(first: Node, node: Node) -> None:
    """What the tool would write, without two seconds of Java: only the ids of the node and of its folder differ."""
    shutil.copytree(first.data, node.data)
    facts = node.data / "meta.properties"
    lines = [line for line in facts.read_text().splitlines() if not line.startswith(("node.id=", "directory.id="))]
    facts.write_text("\n".join([*lines, f"node.id={node.number}", f"directory.id={_id()}", ""]))


def _id() -> str:
    """As Kafka writes one. It begins with an A, and never with a minus."""
    return base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")


@contextlib.asynccontextmanager
async def running_kafka(
    folder: Path,
    nodes: int = 1,
    settings: Mapping[str, str] | None = None,
    listeners: Sequence[Listener] = (),
    scram: Sequence[str] = (),
    java: Sequence[str] = (),
) -> AsyncIterator[Kafka]:
    """`settings` are properties of every node, over those below; `scram` are users as kafka-storage's --add-scram takes
    them; `java` are more options of the virtual machine."""
    folder.mkdir(parents=True, exist_ok=True)
    ports = [(free_port(), free_port()) for _ in range(nodes)]
    voters = ",".join(f"{number}@127.0.0.1:{controller}" for number, (_, controller) in enumerate(ports, 1))
    cluster_id = _id()
    copies = str(min(nodes, 3))
    made: list[Node] = []
    for number, (port, controller) in enumerate(ports, 1):
        node = Node(number, folder, port, java)
        plain = f"PLAINTEXT://127.0.0.1:{port}"
        bound = [plain, f"CONTROLLER://127.0.0.1:{controller}", *(_address(each, each.port) for each in listeners)]
        protocols = ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT", *(f"{each[0]}:{each[1]}" for each in listeners)]
        properties = {
            "process.roles": "broker,controller",
            "node.id": str(number),
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join(bound),
            "advertised.listeners": ",".join([plain, *(_address(each, each.advertised) for each in listeners)]),
            "listener.security.protocol.map": ",".join(protocols),
            "log.dirs": str(node.data),
            "auto.create.topics.enable": "false",  # what a topic is like is said by whoever makes it
            "default.replication.factor": copies,
            "min.insync.replicas": "2" if nodes > 2 else "1",
            "offsets.topic.num.partitions": "4",
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.num.partitions": "2",
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "broker.session.timeout.ms": "3000",  # how soon a dead node's partitions get another leader
            "broker.heartbeat.interval.ms": "500",
            "num.network.threads": "2",
            "num.io.threads": "2",
            "log.cleaner.dedupe.buffer.size": "4194304",
            **(settings or {}),
        }
        node.properties.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        if not made:
            await asyncio.to_thread(_format, node, cluster_id, scram)
        else:
            _copy_format(made[0], node)
        made.append(node)
    try:
        for node in made:
            node.spawn()
        for node in made:
            await node.until_up()
        yield Kafka(made)
    finally:
        for node in made:
            await node.kill()


async def make_topic(
    server: str, topic: str, partitions: int = 1, copies: int = 1, configs: Mapping[str, str] | None = None
) -> None:
    admin: Any = importlib.import_module("aiokafka.admin")
    client = admin.AIOKafkaAdminClient(bootstrap_servers=server)
    await client.start()
    try:
        made = await client.create_topics([admin.NewTopic(topic, partitions, copies, topic_configs=configs)])
        assert all(each[1] == 0 for each in made.topic_errors), made
        async with asyncio.timeout(PATIENCE):  # a busy broker tells of it, and of its leaders, a moment later
            while True:
                (described,) = await client.describe_topics([topic])
                if not described["error_code"] and all(each["leader"] >= 0 for each in described["partitions"]):
                    return
                await asyncio.sleep(0.02)
    finally:
        await client.close()


if __name__ == "__main__":
    fetch()
