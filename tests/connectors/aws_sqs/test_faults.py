"""What goes wrong between a node and its queue: servers that die, networks that break, entries that fail, credentials
that expire. Each test compares what was put in with what came out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from eventfn.clock import SystemClock
from eventfn.destination import OutgoingRecord, Rejected, RetryAfter, Written
from eventfn.errors import ConnectorError
from eventfn.event import Batch, Record
from eventfn.testing import FakeClock, destination_context, trigger_context
from eventfn.trigger import DONE, Reject, Retry, Settlement
from eventfn_aws.batch import Failed
from eventfn_aws.client import AwsError, AwsSettings, Client
from eventfn_aws.sqs import SqsDestination, SqsTrigger
from eventfn_aws.sqs.telling import tell
from eventfn_aws.sqs.trigger import SqsSettings
from tests.servers import aws
from tests.servers.aws import Servers
from tests.servers.sqs import Queue
from tests.support import until


@contextlib.asynccontextmanager
async def opened(queue: Queue, folder: Path, name: str = "", **settings: Any) -> AsyncGenerator[SqsTrigger]:
    trigger = SqsTrigger(
        SqsSettings(queue=name or queue.name, **settings),
        queue.settings,
        trigger_context(folder, clock=SystemClock()),
    )
    await trigger.connect()
    try:
        yield trigger
    finally:
        await trigger.close(5)


def bodies(records: Sequence[Record]) -> list[str]:
    return [msgspec.json.decode(record.payload)["body"] for record in records]


async def finish(trigger: SqsTrigger, count: int) -> list[str]:
    """Reads and finishes until so many different messages have come, connecting again as the host does."""
    found: dict[str, str] = {}
    async with asyncio.timeout(60):
        while len(found) < count:
            try:
                batch = await trigger.read(10)
                found.update(zip([record.id for record in batch.records], bodies(batch.records), strict=True))
                await trigger.settle(batch, [DONE] * len(batch.records))
            except ConnectorError:
                with contextlib.suppress(ConnectorError):
                    await trigger.connect()
    return list(found.values())


# --- servers and networks ---------------------------------------------------------------------------------------------


async def test_a_server_that_is_killed_in_mid_batch_loses_nothing(servers: Servers, tmp_path: Path) -> None:
    server = servers.get("elasticmq")
    async with Queue.on(servers, "elasticmq") as queue, opened(queue, tmp_path) as trigger:
        for number in range(20):
            await queue.send(str(number))
        batch = await trigger.read(10)
        server.kill()
        with pytest.raises(ConnectorError):
            await trigger.settle(batch, [DONE] * len(batch.records))
        with pytest.raises(ConnectorError):
            await trigger.read(10)
        with pytest.raises(ConnectorError):
            await trigger.connect()
        server.start()
        assert sorted(await finish(trigger, 20), key=int) == [str(number) for number in range(20)]
        await until(lambda: _empty(trigger), "nothing is left")


async def _empty(trigger: SqsTrigger) -> bool:
    return await trigger.pending() == 0


@pytest.mark.parametrize("harm", ["cut", "truncate"])
async def test_a_network_that_breaks_loses_nothing(servers: Servers, tmp_path: Path, harm: str) -> None:
    async with Queue.on(servers, "ministack") as queue, opened(queue, tmp_path) as trigger:
        reading = asyncio.create_task(trigger.read(10))
        await until(lambda: any(link.passed["up"] for link in queue.proxy.links), "it polls")
        if harm == "cut":
            queue.proxy.cut()
        else:
            queue.proxy.truncate("down", 20)  # in the middle of the answer
        await queue.send("1")
        with contextlib.suppress(ConnectorError):
            batch = await reading
            await trigger.settle(batch, [DONE] * len(batch.records))
            assert bodies(batch.records) == ["1"]
            return
        assert await finish(trigger, 1) == ["1"]


async def test_a_lost_answer_of_a_fifo_queue_is_said_again(servers: Servers, tmp_path: Path) -> None:
    """Its group is not blocked until a timeout ends: the server knows the attempt. (moto and MiniStack do not.)"""
    async with (
        Queue.on(servers, "elasticmq", fifo=True) as queue,
        opened(queue, tmp_path, visibility_timeout=600) as trigger,
    ):
        reading = asyncio.create_task(trigger.read(10))
        await until(lambda: any(link.passed["up"] for link in queue.proxy.links), "it polls")
        queue.proxy.truncate("down", 20)
        await queue.send("1")
        with contextlib.suppress(ConnectorError):
            assert bodies((await reading).records) == ["1"]
            return
        assert await finish(trigger, 1) == ["1"]


async def test_a_server_that_hangs_holds_up_no_end(servers: Servers, tmp_path: Path) -> None:
    async with Queue.on(servers, "ministack") as queue:
        async with opened(queue, tmp_path) as trigger:
            reading = asyncio.create_task(trigger.read(10))
            await until(lambda: any(link.passed["up"] for link in queue.proxy.links), "it polls")
            queue.proxy.stall()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            async with asyncio.timeout(5):
                await trigger.close(1)
        queue.proxy.flow()


# --- order, dead letters, sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", ["ministack", "elasticmq"])
async def test_what_is_behind_a_failed_message_of_a_group_comes_after_it(
    servers: Servers, tmp_path: Path, server: str
) -> None:
    async with Queue.on(servers, server, fifo=True) as queue, opened(queue, tmp_path) as trigger:
        for body in ("a1", "b1", "a2", "b2", "a3"):
            await queue.send(body, MessageGroupId=body[0])
        seen: list[str] = []
        while len(seen) < 5:
            batch = await trigger.read(10)
            seen += bodies(batch.records)
            if len(seen) < 5:
                await trigger.settle(batch, [DONE] * len(batch.records))
        # The rest of this read fails in its first record of group a; what the host says of the others is worse.
        fates: dict[str, list[Settlement]] = {"a": [Retry(after=1), Retry(after=0), Retry(after=0)], "b": [DONE, DONE]}
        await trigger.settle(batch, [fates[record.group or ""].pop(0) for record in batch.records])
        again: list[str] = []
        left = [body for body in bodies(batch.records) if body.startswith("a")]
        while len(again) < len(left):
            batch = await trigger.read(10)
            again += bodies(batch.records)
            await trigger.settle(batch, [DONE] * len(batch.records))
        assert again == left


@pytest.mark.parametrize("fifo", [False, True])
async def test_what_can_never_be_handled_is_in_the_dead_letters(servers: Servers, tmp_path: Path, fifo: bool) -> None:
    async with (
        Queue.on(servers, "elasticmq", fifo=fifo, dead_letters=5) as queue,
        opened(queue, tmp_path) as trigger,
    ):
        await queue.send("bad", MessageAttributes={"City": {"DataType": "String", "StringValue": "Wien"}})
        await trigger.settle(await trigger.read(10), [Reject("too big")])
        (dead,) = await queue.received(queue.dead_url)
        said = {name: each["StringValue"] for name, each in dead["MessageAttributes"].items()}
        assert (dead["Body"], said) == ("bad", {"City": "Wien", "eventfn.reason": "too big"})
        assert await trigger.pending() == 0


async def test_dead_letters_that_are_gone_leave_the_message_where_it_is(
    servers: Servers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Queue.on(servers, "elasticmq", dead_letters=5) as queue, opened(queue, tmp_path) as trigger:
        await queue.send("bad")
        batch = await trigger.read(10)
        await queue.client.call("delete_queue", QueueUrl=queue.dead_url)
        with caplog.at_level(logging.WARNING):
            await trigger.settle(batch, [Reject("too big")])
        assert "is left to the queue's RedrivePolicy" in caplog.text
        assert await trigger.pending() == 1


async def test_without_dead_letters_it_stays_and_the_log_says_so(
    servers: Servers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Queue.on(servers, "elasticmq") as queue, opened(queue, tmp_path) as trigger:
        await queue.send("bad")
        with caplog.at_level(logging.WARNING):
            await trigger.settle(await trigger.read(10), [Reject("too big")])
        assert "has no RedrivePolicy: too big" in caplog.text
        assert await trigger.pending() == 1


async def test_a_message_of_a_megabyte_goes_through(servers: Servers, tmp_path: Path) -> None:
    async with Queue.on(servers, "ministack") as queue, opened(queue, tmp_path) as trigger:
        body = "é" * (512 * 1024)
        sending = SqsDestination(queue.name, queue.settings, destination_context(tmp_path))
        await sending.connect()
        large = OutgoingRecord("1", msgspec.json.encode(body)[: 1024 * 1024 - 1] + b'"')
        assert await sending.write([OutgoingRecord("0", b'"small"'), large]) == [Written()] * 2
        assert sorted(map(len, await finish(trigger, 2))) == [7, len(large.payload.decode())]
        (answer,) = await sending.write([OutgoingRecord("2", b"x" * (1024 * 1024 + 1))])
        assert answer == Rejected("1048577 bytes are more than a message may have (1048576)")
        await sending.close(5)


@pytest.mark.parametrize("by", ["name", "url", "arn"])
async def test_a_queue_is_found_by_any_of_its_names(servers: Servers, tmp_path: Path, by: str) -> None:
    async with Queue.on(servers, "ministack") as queue:
        names = {"name": queue.name, "url": queue.url, "arn": await queue.arn(queue.url)}
        async with opened(queue, tmp_path, names[by]) as trigger:
            await queue.send("1")
            batch = await trigger.read(10)
            record = msgspec.json.decode(batch.records[0].payload)
            assert (record["eventSourceARN"], record["awsRegion"]) == (names["arn"], aws.REGION)
            await trigger.settle(batch, [DONE])


async def test_a_queue_that_is_not_there_is_named(servers: Servers, tmp_path: Path) -> None:
    async with Queue.on(servers, "ministack") as queue:
        with pytest.raises(ConnectorError, match="there is no queue nowhere in eu-west-1: create it"):
            async with opened(queue, tmp_path, "nowhere"):
                raise AssertionError("it has connected")


async def test_attributes_go_with_a_record(servers: Servers, tmp_path: Path) -> None:
    async with Queue.on(servers, "ministack") as queue:
        sending = SqsDestination(queue.url, queue.settings, destination_context(tmp_path))
        await sending.connect()
        attributes = {"RequestID": "r", "ErrorCode": "200", "ErrorMessage": "", "eventfn.origin": "fn:f"}
        assert await sending.write([OutgoingRecord("1", b"{}", attributes)]) == [Written()]
        await sending.close(5)
        (message,) = await queue.received()
        said = {name: (each["DataType"], each["StringValue"]) for name, each in message["MessageAttributes"].items()}
        assert said == {"RequestID": ("String", "r"), "ErrorCode": ("Number", "200")}


async def test_a_longer_timeout_of_its_own_is_what_hides_a_message(servers: Servers, tmp_path: Path) -> None:
    async with Queue.on(servers, "ministack") as queue:
        async with opened(queue, tmp_path) as trigger:
            assert trigger.lease == 2
        async with opened(queue, tmp_path, visibility_timeout=90) as trigger:
            assert trigger.lease == 90


# --- entries that fail ------------------------------------------------------------------------------------------------


class Stub:
    """A queue that says of each entry what the test has written down: a script for each receipt, None at its end."""

    def __init__(self, **failures: list[Failed | ConnectorError | None]) -> None:
        self.name = type("Name", (), {"name": "jobs"})
        self.failures = failures
        self.calls: list[list[str]] = []

    async def each(self, operation: str, entries: Sequence[Mapping[str, Any]]) -> list[Failed | None]:
        receipts = [entry["ReceiptHandle"] for entry in entries]
        self.calls.append(receipts)
        said = [self.failures[receipt].pop(0) if self.failures.get(receipt) else None for receipt in receipts]
        for each in said:
            if isinstance(each, ConnectorError):
                raise each
        return [each for each in said if not isinstance(each, ConnectorError)]


BUSY = Failed("InternalError", "busy", sender_fault=False)
LAPSED = Failed("ReceiptHandleIsInvalid", "lapsed", sender_fault=True)


async def told(stub: Any, *receipts: str) -> list[int]:
    clock = FakeClock()
    telling = asyncio.create_task(
        tell(stub, "delete_message_batch", [{"ReceiptHandle": receipt} for receipt in receipts], clock)
    )
    while not telling.done():
        await clock.advance(0.1)
    return await telling


async def test_an_entry_that_fails_is_told_again_and_no_other() -> None:
    stub = Stub(b=[BUSY, BUSY])
    assert await told(stub, "a", "b", "c") == []
    assert stub.calls == [["a", "b", "c"], ["b"], ["b"]]


async def test_an_entry_that_fails_on_and_on_is_an_error() -> None:
    stub = Stub(b=[BUSY] * 9)
    with pytest.raises(ConnectorError, match="delete_message_batch failed for 1 messages of jobs: InternalError: busy"):
        await told(stub, "a", "b")
    assert stub.calls == [["a", "b"], ["b"], ["b"]]


async def test_a_lapsed_claim_is_not_told_again() -> None:
    stub = Stub(b=[LAPSED], c=[BUSY, LAPSED])
    assert await told(stub, "a", "b", "c", "d") == [1, 2]
    assert stub.calls == [["a", "b", "c", "d"], ["c"]]


async def test_ten_at_a_time_and_one_failed_call_fails_no_other() -> None:
    stub = Stub(r3=[ConnectorError("reset")])
    with pytest.raises(ConnectorError, match="reset"):
        await told(stub, *(f"r{number}" for number in range(23)))
    assert [len(call) for call in stub.calls] == [10, 10, 3]


async def test_a_late_settlement_is_told_in_the_log(
    servers: Servers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Queue.on(servers, "ministack", fifo=True) as queue, opened(queue, tmp_path) as trigger:
        await queue.send("1")
        (record,) = (await trigger.read(10)).records
        forged = msgspec.structs.replace(record.token, receipt="nonsense")
        with caplog.at_level(logging.WARNING):
            await trigger.settle(Batch((msgspec.structs.replace(record, token=forged),)), [DONE])
        assert "after their visibility timeout" in caplog.text


# --- credentials ------------------------------------------------------------------------------------------------------


class Guard:
    """Refuses whoever signs with another key than `key`, as SQS refuses expired credentials."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.refusal = "ExpiredToken"
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[Guard]:
        app = web.Application()
        app.router.add_post("/", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        await request.read()
        if f"Credential={self.key}/" in request.headers["Authorization"]:
            return web.json_response({"QueueUrls": ["known"]}, content_type="application/x-amz-json-1.0")
        refused = {"__type": f"com.amazon.coral.service#{self.refusal}", "message": "The token has expired"}
        return web.json_response(refused, status=400, content_type="application/x-amz-json-1.0")


def write_credentials(file: Path, key: str) -> None:
    file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\naws_session_token = t\n")


async def test_expired_credentials_work_again_when_they_are_renewed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    write_credentials(file, "OLD")
    async with Guard("OLD").running() as guard:
        client = Client("sqs", AwsSettings(endpoint_url=guard.url, region="eu-west-1"))
        other = Client("sqs", AwsSettings(endpoint_url=guard.url, region="eu-west-1"))
        await client.open()
        await other.open()
        assert (await client.call("list_queues"))["QueueUrls"] == ["known"]
        guard.key = "NEW"
        for _ in range(2):
            with pytest.raises(AwsError, match=r"sqs list_queues: the AWS credentials have expired \(ExpiredToken\)"):
                await client.call("list_queues")
        write_credentials(file, "NEW")
        assert (await client.call("list_queues"))["QueueUrls"] == ["known"]
        assert (await other.call("list_queues"))["QueueUrls"] == ["known"]
        file.unlink()
        guard.key, guard.refusal = "NEWER", "InvalidClientTokenId"
        with pytest.raises(AwsError, match="are not accepted"):
            await client.call("list_queues")
        with pytest.raises(AwsError, match="no AWS credentials were found"):
            await client.call("list_queues")
        await client.close()
        await other.close()


async def test_a_destination_waits_for_new_credentials(tmp_path: Path) -> None:
    async with Guard("NEW").running() as guard:
        settings = AwsSettings(
            endpoint_url=guard.url, region="eu-west-1", access_key_id="OLD", secret_access_key="secret"
        )
        sending = SqsDestination(f"{guard.url}/0/jobs", settings, destination_context(tmp_path))
        await sending.connect()
        (answer,) = await sending.write([OutgoingRecord("1", b"{}")])
        assert isinstance(answer, RetryAfter)
        assert "expired" in answer.reason
        await sending.close(5)
