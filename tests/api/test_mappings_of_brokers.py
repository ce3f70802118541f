"""Event source mappings of brokers by boto3: Kafka of one's own, MSK and Amazon MQ.

The mappings are what is asked about here. Kafka itself is asked of the real broker (tests/connectors/kafka).
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import aiormq

from tests.api.boto import Api
from tests.servers import kafka_mock, rabbitmq
from tests.servers.needed import need
from tests.servers.rabbitmq import RabbitMQ
from tests.support import RunningNode, running_node, until, write_project

aiokafka: Any = importlib.import_module("aiokafka")

CODE = """
    import json
    import os
    import pathlib


    def note(event, context):
        with pathlib.Path(os.environ["SHARED"], "events").open("a") as file:
            file.write(json.dumps(event) + "\\n")
"""
MSK = "arn:aws:kafka:us-east-1:000000000000:cluster/shop/0c1e0c1e-0c1e-0c1e-0c1e-0c1e0c1e0c1e-5"
MQ = "arn:aws:mq:us-east-1:000000000000:broker:shop:b-0c1e"


def project(folder: Path, brokers: str) -> Path:
    return write_project(
        folder / "project",
        f"""
        [functions.note]
        handler = "work.note"
        environment = {{ SHARED = "${{EVENTFN_FOLDER}}/shared" }}
        file_system_configs = [{{ path = "shared" }}]

        {brokers}
        """,
        work=CODE,
    )


def noted(folder: Path) -> list[dict[str, Any]]:
    path = folder / "project" / "shared" / "events"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def made(node: RunningNode, **given: Any) -> None:
    """A mapping that is connected."""
    call = Api(node.admin)
    created = await call("create_event_source_mapping", FunctionName="note", **given)

    async def running() -> bool:
        triggers = (await node.function("note"))["triggers"]
        states = {each["source"]: each["state"] for each in triggers}
        return bool(states[f"mapping/{created['UUID']}"] == "running")

    await until(running, "the mapping runs")


async def test_kafka_of_ones_own_and_msk(tmp_path: Path) -> None:
    need(kafka_mock.missing())
    with kafka_mock.mock_kafka() as (server,):
        for topic in ("own", "managed"):
            await kafka_mock.ask_for_topic(server, topic)
        folder = project(
            tmp_path, f'[kafka.clusters.shop]\nbootstrap_servers = ["{server}"]'.replace("\n", "\n        ")
        )
        async with running_node(folder, tmp_path / "data") as node:
            await made(
                node,
                SelfManagedEventSource={"Endpoints": {"KAFKA_BOOTSTRAP_SERVERS": [server]}},
                Topics=["own"],
                StartingPosition="TRIM_HORIZON",
                SourceAccessConfigurations=[{"Type": "VPC_SUBNET", "URI": "subnet:subnet-1"}],
            )
            await made(node, EventSourceArn=MSK, Topics=["managed"], StartingPosition="TRIM_HORIZON")
            producer = aiokafka.AIOKafkaProducer(bootstrap_servers=server)
            await producer.start()
            try:
                for topic in ("own", "managed"):
                    await producer.send_and_wait(topic, b"hello", partition=0)
            finally:
                await producer.stop()
            await until(lambda: len(noted(tmp_path)) == 2, "both topics are read")
            by_topic = {next(iter(event["records"])): event for event in noted(tmp_path)}
            assert by_topic["own-0"]["eventSource"] == "SelfManagedKafka"
            managed = by_topic["managed-0"]
            assert (managed["eventSource"], managed["eventSourceArn"]) == ("aws:kafka", MSK)


async def test_amazon_mq(tmp_path: Path) -> None:
    need(rabbitmq.missing())
    with RabbitMQ(tmp_path / "rabbitmq") as server:
        connection = await aiormq.connect(server.url)
        try:
            channel = await connection.channel()
            await channel.queue_declare("work", durable=True)
            async with running_node(
                project(tmp_path, f'[amqp]\n        url = "{server.url}"'), tmp_path / "data"
            ) as node:
                await made(
                    node,
                    EventSourceArn=MQ,
                    Queues=["work"],
                    SourceAccessConfigurations=[
                        {"Type": "BASIC_AUTH", "URI": "arn:aws:secretsmanager:us-east-1:000000000000:secret:mq"},
                        {"Type": "VIRTUAL_HOST", "URI": "/"},
                    ],
                )
                await channel.basic_publish(b"hello", routing_key="work")
                await until(lambda: noted(tmp_path), "the queue is read")
                (event,) = noted(tmp_path)
                assert (event["eventSource"], event["eventSourceArn"]) == ("aws:rmq", MQ)
                assert list(event["rmqMessagesByQueue"]) == ["work::/"]
        finally:
            await connection.close()
