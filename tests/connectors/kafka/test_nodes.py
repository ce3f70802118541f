"""Nodes as users run them, several in one group, one of which is killed."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from pathlib import Path

from tests.connectors.kafka.conftest import Broker, Peer
from tests.support import RunningNode, running_node, until, write_project

_WORK = """
import base64, os, time

def handler(event, context):
    time.sleep(0.05)
    with open("/mnt/done/" + os.environ["NODE"], "a") as done:
        for records in event["records"].values():
            for record in records:
                done.write(f"{record['partition']} {record['offset']} {base64.b64decode(record['value']).decode()}\\n")
"""


async def test_a_node_that_is_killed_loses_nothing_to_its_group(broker: Broker, peer: Peer, tmp_path: Path) -> None:
    topic = await peer.create(partitions=4)
    done = tmp_path / "done"
    done.mkdir()
    done.chmod(0o777)
    tmp_path.chmod(0o755)

    def project(name: str) -> Path:
        return write_project(
            tmp_path / name,
            f"""
            [functions.work]
            handler = "work.handler"
            environment = {{ NODE = "{name}" }}
            file_system_configs = [{{ path = "{done}", local_mount_path = "/mnt/done" }}]

            [[functions.work.triggers]]
            type = "kafka"
            topics = ["{topic}"]
            session_timeout = "3s"
            batch_size = 5
            starting_position = "TRIM_HORIZON"

            [kafka]
            bootstrap_servers = ["{broker.kafka.bootstrap[0]}"]
            """,
            work=_WORK,
        )

    def handled(*names: str) -> list[tuple[int, int, str]]:
        lines = [
            line.split() for name in names if (done / name).exists() for line in (done / name).read_text().split("\n")
        ]
        return [(int(line[0]), int(line[1]), line[2]) for line in lines if len(line) == 3]

    put: dict[tuple[int, int], str] = {}
    producer = await peer.producer()

    async def send(count: int) -> None:
        for number in range(count):
            sent = await producer.send_and_wait(topic, b"%d" % number, key=b"key-%d" % (number % 23))
            put[sent.partition, sent.offset] = str(number)

    async with contextlib.AsyncExitStack() as nodes:
        first, second = [
            await nodes.enter_async_context(running_node(project(name), tmp_path / f"{name}-data"))
            for name in ("first", "second")
        ]

        async def both_work() -> bool:
            if len(handled("first", "second")) >= len(put):
                await send(20)  # one has done it all before the other one was given its share
            return bool(handled("first") and handled("second"))

        await until(both_work, "both work")
        await send(100)
        await first.kill()
        await until(
            lambda: {each[:2] for each in handled("first", "second")} == set(put), "the other one has done it all"
        )
        assert all(put[partition, offset] == value for partition, offset, value in handled("first", "second"))
        await until(lambda: _lag_is_gone(second), "all of it is committed")
        ends: defaultdict[int, int] = defaultdict(int)
        for partition, offset in put:
            ends[partition] = max(ends[partition], offset + 1)
        assert await peer.committed("eventfn-work", topic) == ends


async def _lag_is_gone(node: RunningNode) -> bool:
    (trigger,) = (await node.function("work"))["triggers"]
    return bool(trigger["lag"] == 0)
