"""What is written to a bucket, on both servers' answers and on those that no server here gives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from eventfn.destination import ORIGIN, SHAPE, WRITTEN, OutgoingRecord, Rejected, RetryAfter
from eventfn.testing.contexts import destination_context
from eventfn_aws.arn import ArnDestination
from eventfn_aws.client import AwsSettings
from eventfn_aws.s3 import S3Destination
from eventfn_aws.s3.destination import S3DestinationSettings
from tests.connectors.aws_s3.test_keys import KINESIS
from tests.servers import aws
from tests.servers.aws import Servers
from tests.servers.s3 import Bucket

TIME = "2026-11-14T18:16:05.568Z"


@pytest_asyncio.fixture
async def bucket(servers: Servers) -> AsyncIterator[Bucket]:
    async with Bucket.on(servers, "ministack") as bucket:
        yield bucket


def record(number: int, function: str = "work", **more: Any) -> OutgoingRecord:
    payload = msgspec.json.encode({"version": "1.0", "timestamp": TIME, "number": number, **more})
    return OutgoingRecord(f"r{number}", payload, {ORIGIN: f"fn:{function}", SHAPE: "record"})


def to(folder: Path, target: str, reached: AwsSettings, **keys: Any) -> S3Destination:
    settings = S3DestinationSettings(**msgspec.structs.asdict(reached), **keys)
    return S3Destination(target, settings, destination_context(folder))


async def test_records_are_under_lambdas_keys(bucket: Bucket, tmp_path: Path) -> None:
    destination = to(tmp_path, f"//{bucket.name}/failed", bucket.settings)
    await destination.connect()
    batch = OutgoingRecord("b1", msgspec.json.encode(KINESIS), {ORIGIN: "fn:work", SHAPE: "batch"})
    letter = OutgoingRecord("d1", b'{"timestamp": 1}', {ORIGIN: "fn:work", SHAPE: "event"})
    assert await destination.write([record(1), batch, letter]) == [WRITTEN] * 3
    await destination.close(5)
    mapping = "2f882d63-2177-5950-ae5c-db47c2a4cb28"
    assert await bucket.keys() == [
        f"failed/aws/lambda/{mapping}/shardId-000000000006/2026/11/14/2026-11-14T00.38.06-b1",
        "failed/aws/lambda/async/work/2026/11/14/2026-11-14T18.16.05-r1",
        "failed/aws/lambda/async/work/d1",
    ]
    content = await bucket.get("failed/aws/lambda/async/work/2026/11/14/2026-11-14T18.16.05-r1")
    assert content == (record(1).payload, "application/json")


async def test_records_may_be_lines_of_one_object_for_each_function_and_day(bucket: Bucket, tmp_path: Path) -> None:
    destination = to(tmp_path, f"//{bucket.name}", bucket.settings, batched=True)
    await destination.connect()
    letter = OutgoingRecord("d1", b'{"a": 1,\n "b": "x\\ny"}', {ORIGIN: "fn:work", SHAPE: "event"})
    records = [record(1), record(2, "play"), record(3), letter]
    assert await destination.write(records) == [WRITTEN] * 4
    assert await destination.write(records) == [WRITTEN] * 4
    await destination.close(5)
    found = {key: await bucket.get(key) for key in await bucket.keys()}
    day = "2026/11/14/2026-11-14T18.16.05"
    assert found == {
        f"aws/lambda/async/work/{day}-r1.jsonl": (
            record(1).payload + b"\n" + record(3).payload + b"\n",
            "application/x-ndjson",
        ),
        f"aws/lambda/async/play/{day}-r2.jsonl": (record(2).payload + b"\n", "application/x-ndjson"),
        "aws/lambda/async/work/d1.jsonl": (b'{"a":1,"b":"x\\ny"}\n', "application/x-ndjson"),
    }


async def test_a_bucket_may_be_named_by_its_arn(bucket: Bucket, tmp_path: Path) -> None:
    target = f"aws:s3:::{bucket.name}"
    assert ArnDestination.check(target, bucket.settings) is None
    destination = ArnDestination(target, bucket.settings, destination_context(tmp_path))
    await destination.connect()
    assert await destination.write([record(1)]) == [WRITTEN]
    await destination.close(5)
    assert await bucket.keys() == ["aws/lambda/async/work/2026/11/14/2026-11-14T18.16.05-r1"]


async def test_a_bucket_that_is_not_there_is_tried_again(bucket: Bucket, tmp_path: Path) -> None:
    destination = to(tmp_path, "//no-such-bucket-here", bucket.settings)
    await destination.connect()
    (answer,) = await destination.write([record(1)])
    assert isinstance(answer, RetryAfter)
    assert "NoSuchBucket" in answer.reason
    await destination.close(5)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "EntityTooLarge", Rejected),
        (400, "KeyTooLongError", Rejected),
        (400, "ExpiredToken", RetryAfter),
        (403, "AccessDenied", RetryAfter),
        (503, "SlowDown", RetryAfter),
        (500, "InternalError", RetryAfter),
    ],
)
@pytest.mark.parametrize("batched", [True, False])
async def test_what_is_refused_is_rejected_or_comes_again(
    tmp_path: Path, status: int, code: str, kind: type, batched: bool
) -> None:
    async def refuse(request: web.Request) -> web.Response:
        await request.read()
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>"
        return web.Response(text=body, status=status, content_type="application/xml")

    app = web.Application()
    app.router.add_put("/{path:.*}", refuse)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    destination = to(tmp_path, "//photos", aws.settings(f"http://127.0.0.1:{runner.addresses[0][1]}"), batched=batched)
    try:
        await destination.connect()
        answers = await destination.write([record(1), record(2)])
        assert [type(answer) for answer in answers] == [kind] * 2
    finally:
        await destination.close(5)
        await runner.cleanup()


async def test_what_is_nested_without_end_keeps_no_other_record_waiting(bucket: Bucket, tmp_path: Path) -> None:
    destination = to(tmp_path, f"//{bucket.name}", bucket.settings, batched=True)
    await destination.connect()
    deep = b'{"timestamp":\n' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    records = [
        OutgoingRecord(f"d{n}", deep, {ORIGIN: "fn:work", SHAPE: shape}) for n, shape in enumerate(("record", "event"))
    ]
    assert await destination.write([*records, record(1)]) == [WRITTEN] * 3
    await destination.close(5)
    content, _ = await bucket.get("aws/lambda/async/work/d0.jsonl")
    assert content == (deep.replace(b"\n", b" ") + b"\n") * 2
