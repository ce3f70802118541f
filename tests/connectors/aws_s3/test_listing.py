"""A bucket that is listed: what is announced of it over time, restarts and faults, on MiniStack; and on a stand-in what
no server here does on request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote_plus
from xml.sax.saxutils import escape

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from eventfn.errors import ConnectorError
from eventfn.event import Record
from eventfn.testing import FakeClock
from eventfn.testing.contexts import MemoryPositions, trigger_context
from eventfn.trigger import DONE, Done, Reject, Retry, Settlement
from eventfn.units import Duration
from eventfn_aws.client import AwsSettings
from eventfn_aws.s3 import S3Trigger
from eventfn_aws.s3.settings import S3Settings, S3Shared
from tests.servers import aws
from tests.servers.aws import Servers
from tests.servers.s3 import Bucket
from tests.support import until

EVERY = 30.0
BOTH = ("ObjectCreated:*", "ObjectRemoved:*")
Seen = tuple[str, str]  # (what happened, key)


class Watch:
    """A trigger on a bucket, and the host that it has: its positions outlive it."""

    def __init__(self, folder: Path, reached: AwsSettings, bucket: str, **keys: Any) -> None:
        self.clock = FakeClock()
        self.positions = MemoryPositions()
        self._context = trigger_context(folder, clock=self.clock, positions=self.positions)
        keys = {"events": BOTH} | keys
        self._settings = S3Settings(bucket=bucket, every=Duration(EVERY), **keys)
        self._shared = S3Shared(**msgspec.structs.asdict(reached))
        self.trigger = self._make()
        self._seen: list[Record] = []
        self._reading: asyncio.Task[None] | None = None

    def _make(self) -> S3Trigger:
        return S3Trigger(self._settings, self._shared, self._context)

    async def connect(self) -> None:
        await self.trigger.connect()

    async def restart(self) -> None:
        """As after kill -9: what was not kept is forgotten."""
        await self.trigger.close(5)
        self.trigger = self._make()
        await self.trigger.connect()

    async def listed(self, *, settlement: Settlement = DONE) -> list[Record]:
        """What the next listing brings, to its end. The first one after a connect is due at once."""
        found: list[Record] = []
        reading = asyncio.create_task(self._read(found, settlement))
        try:
            # A listing is at its end when the next one is waited for.
            while not reading.done() and self.clock.next_wake is None:
                await asyncio.wait({reading}, timeout=0.005)
            if reading.done():
                reading.result()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        await self.clock.advance(EVERY)
        return found

    async def _read(self, found: list[Record], settlement: Settlement) -> None:
        while True:
            batch = await self.trigger.read(100)
            found += batch.records
            for record in batch.records:
                if record.position is not None and isinstance(settlement, Done):
                    await self.positions.put(record.position.key, record.position.value)
            await self.trigger.settle(batch, [settlement] * len(batch.records))

    async def seen(self) -> list[Seen]:
        return seen(*await self.listed())

    async def close(self) -> None:
        await self.trigger.close(5)


def told(record: Record) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(record.payload)["Records"][0]
    return found


def seen(*records: Record) -> list[Seen]:
    return sorted((told(record)["eventName"], told(record)["s3"]["object"]["key"]) for record in records)


def created(*keys: str) -> list[Seen]:
    return [("ObjectCreated:Put", key) for key in keys]


def removed(*keys: str) -> list[Seen]:
    return [("ObjectRemoved:Delete", key) for key in keys]


@contextlib.asynccontextmanager
async def watching(folder: Path, reached: AwsSettings, bucket: str, **keys: Any) -> AsyncGenerator[Watch]:
    watch = Watch(folder, reached, bucket, **keys)
    try:
        yield watch
    finally:
        await watch.close()


@pytest_asyncio.fixture
async def bucket(servers: Servers) -> AsyncIterator[Bucket]:
    async with Bucket.on(servers, "ministack") as bucket:
        yield bucket


# --- what is announced ------------------------------------------------------------------------------------------------


async def test_an_event_is_as_s3_would_write_it(bucket: Bucket, tmp_path: Path) -> None:
    async with watching(tmp_path, bucket.settings, bucket.name) as watch:
        await watch.connect()
        await bucket.put("in/a b+é.jpg", b"four")
        (record,) = await watch.listed()
        event = told(record)
        (found,) = await bucket.objects()
        modified = found["LastModified"].strftime("%Y-%m-%dT%H:%M:%S")
        assert event.pop("eventTime").startswith(modified)
        assert len(event.pop("responseElements")["x-amz-request-id"]) == 16
        sequencer = event["s3"]["object"].pop("sequencer")
        assert event == {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "eu-west-1",
            "eventName": "ObjectCreated:Put",
            "userIdentity": {"principalId": "000000000000"},
            "requestParameters": {"sourceIPAddress": "127.0.0.1"},
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "hello/test/0",
                "bucket": {
                    "name": bucket.name,
                    "ownerIdentity": {"principalId": "000000000000"},
                    "arn": f"arn:aws:s3:::{bucket.name}",
                },
                "object": {"key": "in/a+b%2B%C3%A9.jpg", "size": 4, "eTag": "8cbad96aced40b3838dd9f07f6ef5772"},
            },
        }
        await bucket.delete("in/a b+é.jpg")
        (gone,) = await watch.listed()
        shown = told(gone)["s3"]["object"]
        assert set(shown) == {"key", "sequencer"}
        assert shown["sequencer"] > sequencer


async def test_what_happens_to_an_object_is_announced_each_time(bucket: Bucket, tmp_path: Path) -> None:
    async with watching(tmp_path, bucket.settings, bucket.name) as watch:
        await watch.connect()
        await bucket.put("a")
        await bucket.put("b")
        assert await watch.seen() == created("a", "b")
        assert await watch.seen() == []
        await bucket.put("a", b"other")
        await bucket.delete("b")
        assert await watch.seen() == created("a") + removed("b")
        await bucket.put("b")
        await watch.restart()
        assert await watch.seen() == created("b")
        assert await watch.seen() == []


async def test_prefix_and_suffix_say_which_objects(bucket: Bucket, tmp_path: Path) -> None:
    async with watching(tmp_path, bucket.settings, bucket.name, prefix="in/", suffix=".jpg") as watch:
        await watch.connect()
        for key in ("in/a.jpg", "in/a.JPG", "in/b.png", "out/a.jpg", "in/deep/c.jpg"):
            await bucket.put(key)
        assert await watch.seen() == created("in/a.jpg", "in/deep/c.jpg")
        for key in await bucket.keys():
            await bucket.delete(key)
        assert await watch.seen() == removed("in/a.jpg", "in/deep/c.jpg")


async def test_keys_of_every_kind_are_told_apart(bucket: Bucket, tmp_path: Path) -> None:
    keys = ["a b", "a+b", "a%20b", "a%2520b", "%", "%00", "é東\U0001f600", "a/", "a//b", "<&>", '"', "東" * 341]
    await bucket.put_all(keys)
    async with watching(tmp_path, bucket.settings, bucket.name) as watch:
        await watch.connect()
        told_of = await watch.seen()
        assert sorted(unquote_plus(key) for _, key in told_of) == sorted(keys)
        await watch.restart()
        assert await watch.seen() == []
        for key in keys:
            await bucket.delete(key)
        assert [key for _, key in await watch.seen()] == [key for _, key in told_of]
        assert watch.positions.values == {}


async def test_a_key_may_have_what_xml_and_databases_have_not(shelf: Shelf, tmp_path: Path) -> None:
    shelf.keys = ["a%00b", "a%01b", "a%2500b"]  # as a listing with EncodingType=url has them
    shelf.encodes = True
    async with watching(tmp_path, aws.settings(shelf.url), "photos") as watch:
        await watch.connect()
        assert await watch.seen() == created(*shelf.keys)
        assert not any("\0" in position for position in watch.positions.values)
        await watch.restart()
        assert await watch.seen() == []


@pytest.mark.parametrize("event", BOTH)
async def test_what_is_not_announced_is_known_all_the_same(bucket: Bucket, tmp_path: Path, event: str) -> None:
    async with watching(tmp_path, bucket.settings, bucket.name, events=(event,)) as watch:
        await watch.connect()
        happened: list[Seen] = []
        for _ in range(2):
            await bucket.put("a")
            happened += await watch.seen()
            await watch.restart()
            await bucket.delete("a")
            happened += await watch.seen()
            await watch.restart()
        assert happened == (created("a", "a") if event.startswith("ObjectCreated") else removed("a", "a"))
        assert watch.positions.values == {}


async def test_what_is_there_at_the_very_first_listing_may_be_skipped(bucket: Bucket, tmp_path: Path) -> None:
    await bucket.put("old")
    async with watching(tmp_path, bucket.settings, bucket.name, existing="skip") as watch:
        await watch.connect()
        assert await watch.seen() == []
        await bucket.put("new")
        await watch.restart()
        assert await watch.seen() == created("new")
        await bucket.delete("old")
        assert await watch.seen() == removed("old")


async def test_an_empty_bucket_was_listed_too(bucket: Bucket, tmp_path: Path) -> None:
    async with watching(tmp_path, bucket.settings, bucket.name, existing="skip") as watch:
        await watch.connect()
        assert await watch.seen() == []
        await watch.restart()
        await bucket.put("new")
        assert await watch.seen() == created("new")


async def test_what_the_host_gives_up_is_not_announced_again(bucket: Bucket, tmp_path: Path) -> None:
    async with watching(tmp_path, bucket.settings, bucket.name) as watch:
        await watch.connect()
        await bucket.put("a")
        assert len(await watch.listed(settlement=Reject("it can never be handled"))) == 1
        await watch.restart()
        assert await watch.seen() == []


async def test_what_is_to_be_retried_is_looked_for_in_its_time(shelf: Shelf, tmp_path: Path) -> None:
    shelf.keys = ["a", "b", "c"]
    async with watching(tmp_path, aws.settings(shelf.url), "photos") as watch:
        await watch.connect()
        first = await watch.trigger.read(1)
        await watch.trigger.settle(first, [Retry(after=5)])
        reading = asyncio.create_task(watch.trigger.read(10))
        await watch.trigger.settle(await reading, [DONE])
        await watch.trigger.settle(await watch.trigger.read(10), [DONE])
        reading = asyncio.create_task(watch.trigger.read(10))
        await until(lambda: watch.clock.next_wake, "it waits for the next listing")
        assert watch.clock.next_wake == 5
        await watch.clock.advance(5)
        again = await reading
        assert [record.id for record in again.records] == [record.id for record in first.records]
        await watch.trigger.settle(again, [DONE])
        reading = asyncio.create_task(watch.trigger.read(10))
        await until(lambda: watch.clock.next_wake, "it waits for the next listing")
        assert watch.clock.next_wake == EVERY
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def test_a_large_bucket_is_listed_page_by_page(bucket: Bucket, tmp_path: Path) -> None:
    keys = [f"in/{number:05}.jpg" for number in range(5000)]
    await bucket.put_all(keys)
    async with watching(tmp_path, bucket.settings, bucket.name) as watch:
        await watch.connect()
        assert await watch.seen() == created(*keys)
        await watch.restart()
        assert await watch.seen() == []
        for key in keys[::1000]:
            await bucket.delete(key)
        assert await watch.seen() == removed(*keys[::1000])
        assert len(watch.positions.values) == 4995


# --- faults -----------------------------------------------------------------------------------------------------------


async def test_a_bucket_that_is_gone_has_lost_nothing(bucket: Bucket, tmp_path: Path) -> None:
    async with watching(tmp_path, bucket.settings, bucket.name) as watch:
        await watch.connect()
        await bucket.put("a")
        assert await watch.seen() == created("a")
        await bucket.delete("a")
        await bucket.client.call("delete_bucket", Bucket=bucket.name)
        with pytest.raises(ConnectorError, match="NoSuchBucket"):
            await watch.seen()
        with pytest.raises(ConnectorError, match="NoSuchBucket"):
            await watch.connect()
        await bucket.make(bucket.name)
        await bucket.put("a")
        await watch.connect()
        assert removed("a")[0] not in await watch.seen()


async def test_an_answer_that_is_cut_shows_nothing_as_gone(bucket: Bucket, tmp_path: Path) -> None:
    keys = [f"{number}" for number in range(20)]
    await bucket.put_all(keys)
    async with watching(tmp_path, bucket.settings, bucket.name) as watch:
        await watch.connect()
        assert len(await watch.seen()) == 20
        bucket.proxy.on_connect = lambda link: link.truncate("down", 2000)
        bucket.proxy.cut()
        with pytest.raises(ConnectorError):
            await watch.seen()
        bucket.proxy.on_connect = None
        bucket.proxy.cut()
        await watch.connect()
        assert await watch.seen() == []


class Shelf:
    """Stands for S3 where a bucket is listed: two objects in a page."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.refusals: dict[int, tuple[int, str]] = {}  # of the how-manieth request from now: status and code
        self.says_where: Literal["NextContinuationToken", "NextMarker"] = "NextContinuationToken"
        self.encodes = False
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[Shelf]:
        app = web.Application()
        app.router.add_get("/photos", self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        refusal = self.refusals.pop(0, None)
        self.refusals = {number - 1: each for number, each in self.refusals.items()}
        if refusal is not None:
            body = f"<Error><Code>{refusal[1]}</Code><Message>no</Message></Error>"
            return web.Response(text=body, status=refusal[0], content_type="application/xml")
        first = int(request.query.get("continuation-token", "0"))
        page = self.keys[first : first + 2]
        more = first + 2 < len(self.keys)
        shown = "".join(
            f'<Contents><Key>{escape(key)}</Key><ETag>"e"</ETag><Size>1</Size>'
            "<LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>"
            for key in page
        )
        shown += "<EncodingType>url</EncodingType>" if self.encodes else ""
        where = f"<{self.says_where}>{first + 2}</{self.says_where}>" if more else ""
        body = f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{where}{shown}</ListBucketResult>"
        return web.Response(text=body, content_type="application/xml")


@pytest_asyncio.fixture
async def shelf() -> AsyncIterator[Shelf]:
    async with Shelf().running() as shelf:
        yield shelf


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((400, "ExpiredToken"), r"credentials have expired \(ExpiredToken\): renew them"),
        ((403, "InvalidAccessKeyId"), "credentials are not accepted"),
        ((403, "AccessDenied"), "AccessDenied"),
    ],
)
async def test_a_listing_that_is_refused_in_its_middle_is_begun_anew(
    shelf: Shelf, tmp_path: Path, refusal: tuple[int, str], message: str
) -> None:
    shelf.keys = [f"{number}" for number in range(6)]
    async with watching(tmp_path, aws.settings(shelf.url), "photos") as watch:
        await watch.connect()
        assert await watch.seen() == created(*shelf.keys)
        shelf.keys = [*shelf.keys[1:], "6"]
        shelf.refusals = {1: refusal}
        with pytest.raises(ConnectorError, match=message):
            await watch.seen()
        await watch.connect()
        assert await watch.seen() == created("6") + removed("0")


async def test_a_store_that_does_not_say_how_a_listing_goes_on_is_not_believed(shelf: Shelf, tmp_path: Path) -> None:
    shelf.keys = [f"{number}" for number in range(6)]
    async with watching(tmp_path, aws.settings(shelf.url), "photos") as watch:
        await watch.connect()
        assert await watch.seen() == created(*shelf.keys)
        shelf.says_where = "NextMarker"
        with pytest.raises(ConnectorError, match="photos cannot be listed"):
            await watch.seen()


async def test_a_read_that_is_cancelled_in_the_middle_of_a_listing_goes_on(shelf: Shelf, tmp_path: Path) -> None:
    shelf.keys = [f"{number}" for number in range(9)]
    async with watching(tmp_path, aws.settings(shelf.url), "photos") as watch:
        await watch.connect()
        found: list[Record] = []
        for turns in range(60):
            reading = asyncio.create_task(watch.trigger.read(1))
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            if not reading.cancelled():
                batch = reading.result()
                found += batch.records
                await watch.trigger.settle(batch, [DONE])
        found += await watch.listed()
        assert seen(*found) == created(*shelf.keys)
