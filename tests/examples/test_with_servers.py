"""The lessons that need a server beside them, each with the real one."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers import aws, kafka, moto, postgres, redis
from tests.servers.needed import need
from tests.servers.process import free_port
from tests.support import command, running_node, until

EXAMPLES = Path(__file__).parents[2] / "examples"
LESSONS = ["06_clicks", "07_photos", "08_jobs", "09_outbox", "10_trades"]


def copied(name: str, tmp_path: Path) -> Path:
    """So that the checkout stays as it is."""
    return Path(shutil.copytree(EXAMPLES / name, tmp_path / "lesson"))


@pytest.mark.parametrize("name", LESSONS)
def test_every_lesson_checks_out(name: str) -> None:
    checked = command("check", str(EXAMPLES / name))

    assert checked.returncode == 0, checked.stderr


async def test_clicks_are_counted_and_the_one_that_cannot_be_read_is_given_up_alone(tmp_path: Path) -> None:
    need(kafka.missing())
    lesson = copied("06_clicks", tmp_path)
    clicks = (lesson / "clicks.jsonl").read_bytes().splitlines()
    counts = lesson / "counts" / "pages.json"
    async with kafka.running_kafka(tmp_path / "kafka") as broker:
        library: Any = importlib.import_module("aiokafka")
        manage: Any = importlib.import_module("aiokafka.admin")
        admin = manage.AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
        await admin.start()
        await admin.create_topics([manage.NewTopic("clicks", 1, 1), manage.NewTopic("clicks-failed", 1, 1)])
        await admin.close()
        producer = library.AIOKafkaProducer(bootstrap_servers=broker.bootstrap)
        await producer.start()
        for click in clicks:
            await producer.send("clicks", click)
        await producer.stop()
        async with running_node(lesson, tmp_path / "data", environment={"KAFKA": broker.bootstrap[0]}):

            def counted() -> int:
                return sum(json.loads(counts.read_text()).values()) if counts.exists() else 0

            await until(lambda: counted() == len(clicks) - 1, "all clicks but one are counted")
            consumer = library.AIOKafkaConsumer(
                "clicks-failed", bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest"
            )
            await consumer.start()
            failed = json.loads((await consumer.getone()).value)
            await consumer.stop()

    assert failed["requestContext"]["condition"] == "RetriesExhausted"
    assert failed["KafkaBatchInfo"]["batchSize"] == 1
    assert failed["payload"]["Records"][0]["value"] == clicks[-1].decode()


async def test_each_photo_of_a_bucket_ends_in_one_of_two_queues(tmp_path: Path) -> None:
    need(moto.missing())
    lesson = copied("07_photos", tmp_path)
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "secret"}
    with moto.server(tmp_path) as server:
        async with aws.client("s3", server.url) as s3, aws.client("sqs", server.url) as sqs:
            await s3.call(
                "create_bucket", Bucket="photos", CreateBucketConfiguration={"LocationConstraint": aws.REGION}
            )
            filed = (await sqs.call("create_queue", QueueName="photos-filed"))["QueueUrl"]
            refused = (await sqs.call("create_queue", QueueName="photos-refused"))["QueueUrl"]
            await s3.call("put_object", Bucket="photos", Key="inbox/lamps/red lamp.jpg", Body=b"a lamp")
            await s3.call("put_object", Bucket="photos", Key="inbox/lamps/empty.jpg", Body=b"")
            await s3.call("put_object", Bucket="photos", Key="inbox/lamps/readme.txt", Body=b"no photo")

            async def in_queue(url: str) -> list[Any]:
                answer = await sqs.call("receive_message", QueueUrl=url, MaxNumberOfMessages=10)
                return [json.loads(message["Body"]) for message in answer.get("Messages", [])]

            async with running_node(lesson, tmp_path / "data", environment={"AWS_ENDPOINT_URL": server.url} | keys):
                (good,) = await until(lambda: in_queue(filed), "the lamp is filed")
                (bad,) = await until(lambda: in_queue(refused), "the empty one is refused")

    assert good["responsePayload"] == {"album": "lamps", "key": "inbox/lamps/red lamp.jpg", "bytes": 6}
    assert bad["requestContext"]["condition"] == "RetriesExhausted"
    assert bad["responsePayload"]["errorMessage"] == "inbox/lamps/empty.jpg is empty"


async def test_a_job_that_keeps_failing_ends_among_the_dead_and_the_others_are_done(tmp_path: Path) -> None:
    need(redis.missing())
    from redis.asyncio import Redis

    lesson = copied("08_jobs", tmp_path)
    with redis.RedisServer(tmp_path) as server:
        url = f"redis://{server.host}:{server.port}/0"
        client: Any = Redis.from_url(url)
        async with running_node(lesson, tmp_path / "data", environment={"REDIS": url}):
            await client.xadd("jobs", {"body": '{"id": "sum-1", "numbers": [1, 2, 3]}'})
            await client.xadd("jobs", {"body": '{"id": "sum-2", "numbers": "none"}'})
            result = lesson / "results" / "sum-1.txt"
            await until(lambda: result.exists() and result.read_text() == "6", "the good job is done")

            async def dead() -> Any:
                return await client.xrange("jobs-dead")

            ((_, fields),) = await until(dead, "the bad job is given up")
        await client.aclose()

    assert json.loads(fields[b"body"])["id"] == "sum-2"


async def test_messages_of_committed_transactions_are_handled_in_their_order(tmp_path: Path) -> None:
    need(postgres.missing())
    import psycopg

    lesson = copied("09_outbox", tmp_path)
    (tmp_path / "postgres").mkdir()
    with postgres.Postgres(tmp_path / "postgres") as server:
        async with running_node(lesson, tmp_path / "data", environment={"DATABASE_URL": server.dsn()}):

            async def table() -> bool:
                async with await psycopg.AsyncConnection.connect(server.dsn()) as connection:
                    found = await connection.execute("SELECT to_regclass('outbox')")
                    return (await found.fetchone()) != (None,)

            await until(table, "the outbox is made")
            async with await psycopg.AsyncConnection.connect(server.dsn(), autocommit=True) as connection:
                await connection.execute((lesson / "orders.sql").read_bytes())
            letters = lesson / "letters"
            await until(lambda: len(list(letters.glob("*.txt"))) == 2, "ada and bob have letters")
            ada = letters / "ada.txt"
            await until(lambda: ada.read_text().count("\n") == 2, "ada has two")

    assert ada.read_text() == "order.placed: A-1\norder.shipped: A-1\n"
    assert not (letters / "eve.txt").exists()


async def test_trades_of_a_feed_become_prices(tmp_path: Path) -> None:
    lesson = copied("10_trades", tmp_path)
    port = free_port()
    feed = (lesson / "feed.py").read_text().replace("8765", str(port))
    (lesson / "feed.py").write_text(feed)
    with subprocess.Popen([sys.executable, str(lesson / "feed.py")], stdout=subprocess.DEVNULL) as serving:
        try:
            address = {"FEED": f"ws://127.0.0.1:{port}/feed"}
            async with running_node(lesson, tmp_path / "data", environment=address):
                prices = lesson / "prices"
                await until(lambda: len(list(prices.glob("*.txt"))) == 2, "both trades are known")
        finally:
            serving.terminate()

    assert (prices / "LAMP.txt").read_text() == "45.5"
    assert not (prices / "VOID.txt").exists()
