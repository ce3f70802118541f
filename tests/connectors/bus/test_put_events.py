"""PutEvents on the wire, with the SDK that people have, and without one."""

from __future__ import annotations

import asyncio
import datetime
import importlib
import importlib.util
import io
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from eventfn.errors import ConnectorError, EngineFull
from eventfn.functions.model import Queue
from eventfn.testing import FakeClock, memory_queues
from eventfn.trigger import ListenContext, QueueMessage, Queues
from eventfn_bus import BusTrigger
from eventfn_bus.settings import BusShared, RuleSettings, TargetSettings

if importlib.util.find_spec("boto3") is None and "CI" not in os.environ:
    pytest.skip("needs boto3: pip install 'moto[server]'", allow_module_level=True)
boto3: Any = importlib.import_module("boto3")  # it has no types

ENTRY = {"Source": "shop", "DetailType": "OrderPlaced", "Detail": '{"id": 1}'}
TOKEN = "a-token"
HEADERS = {"X-Amz-Target": "AWSEvents.PutEvents"}


class Entrance:
    def __init__(self, queues: Queues, clock: FakeClock, folder: Path) -> None:
        self.queues = queues
        self.delivered: list[Any] = []
        self.address = ""
        self._clock = clock
        self._folder = folder
        self._buses: list[BusTrigger] = []

    async def open(self, listen: str = "127.0.0.1:0", *tokens: str) -> BusTrigger:
        every = RuleSettings(event_pattern={"source": [{"prefix": ""}]}, targets=[TargetSettings(uri="queue:all")])
        other = RuleSettings(event_pattern={"source": ["never"]}, targets=[TargetSettings(uri="queue:x")], bus="small")
        shared = BusShared(listen=listen, tokens=list(tokens), rules={"every": every, "other": other})
        log = logging.getLogger("eventfn.bus")
        bus = BusTrigger(
            shared,
            ListenContext(str(self._folder), "us-east-1", "000000000000", self._clock, log, self.queues, self._deliver),
        )
        self._buses.append(bus)
        bus.mount([])
        address = await bus.open()
        assert address is not None
        self.address = f"http://{address}"
        return bus

    async def _deliver(self, uri: str, record_id: str, payload: bytes, attributes: dict[str, str]) -> None:
        self.delivered.append(msgspec.json.decode(payload))

    def client(self) -> Any:
        return boto3.client(
            "events",
            endpoint_url=self.address,
            region_name="us-east-1",
            aws_access_key_id="x",
            aws_secret_access_key="x",
        )

    async def put(self, *entries: dict[str, Any], client: Any = None) -> Any:
        return await asyncio.to_thread((client or self.client()).put_events, Entries=list(entries))

    async def post(self, body: bytes | io.BytesIO, headers: dict[str, str] = HEADERS) -> tuple[int, dict[str, Any]]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.address + "/", data=body, headers=headers) as answer,
        ):
            assert answer.headers["x-amzn-RequestId"]
            assert answer.content_type == "application/x-amz-json-1.1"
            return answer.status, msgspec.json.decode(await answer.read())

    async def routed(self, count: int) -> list[Any]:
        while len(self.delivered) < count:
            await self._clock.advance(0.01)
        return self.delivered

    async def close(self) -> None:
        for bus in self._buses:
            await bus.drain(5)
            await bus.close()


@pytest_asyncio.fixture
async def entrance(tmp_path: Path) -> AsyncIterator[Entrance]:
    clock = FakeClock(1_447_277_394_999)
    async with memory_queues(clock, Queue(name="bus.small", maximum_messages=0)) as queues:
        entrance = Entrance(queues, clock, tmp_path)
        yield entrance
        await entrance.close()


async def test_an_event_that_is_put_is_routed(entrance: Entrance) -> None:
    await entrance.open()
    moment = datetime.datetime(2015, 11, 11, 21, 29, 54, tzinfo=datetime.UTC)
    answer = await entrance.put(ENTRY | {"Resources": ["arn:a"], "Time": moment})
    assert answer["FailedEntryCount"] == 0
    (result,) = answer["Entries"]
    (event,) = await entrance.routed(1)
    assert event == {
        "version": "0",
        "id": result["EventId"],
        "detail-type": "OrderPlaced",
        "source": "shop",
        "account": "000000000000",
        "time": "2015-11-11T21:29:54Z",
        "region": "us-east-1",
        "resources": ["arn:a"],
        "detail": {"id": 1},
    }


async def test_a_wrong_entry_takes_no_other_with_it(entrance: Entrance) -> None:
    await entrance.open()
    answer = await entrance.put(ENTRY, ENTRY | {"Detail": "no JSON"}, ENTRY | {"EventBusName": "nowhere"}, ENTRY)
    assert answer["FailedEntryCount"] == 2
    assert [entry.get("ErrorCode") for entry in answer["Entries"]] == [
        None,
        "MalformedDetail",
        "ResourceNotFoundException",
        None,
    ]
    events = await entrance.routed(2)
    assert {event["id"] for event in events} == {entry["EventId"] for entry in answer["Entries"] if "EventId" in entry}


async def test_a_full_bus_throttles_its_entries(entrance: Entrance) -> None:
    await entrance.open()
    answer = await entrance.put(ENTRY | {"EventBusName": "small"}, ENTRY)
    assert [entry.get("ErrorCode") for entry in answer["Entries"]] == ["ThrottlingException", None]


async def test_a_full_disk_is_an_error_of_ours(entrance: Entrance, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(queue: str, messages: list[QueueMessage]) -> list[str]:
        raise EngineFull("no space left")

    await entrance.open()
    monkeypatch.setattr(entrance.queues, "send", full)
    answer = await entrance.put(ENTRY)
    assert answer["Entries"] == [{"ErrorCode": "InternalFailure", "ErrorMessage": "no space left"}]


async def test_a_request_that_is_too_large_is_refused_as_a_whole(entrance: Entrance) -> None:
    await entrance.open()
    client = entrance.client()
    with pytest.raises(client.exceptions.ClientError, match="Total size of the entries in the request is over") as over:
        await entrance.put(ENTRY | {"Detail": '{"a": "%s"}' % ("x" * 262_144)}, client=client)
    assert over.value.response["Error"]["Code"] == "ValidationException"
    assert await entrance.post(io.BytesIO(b" " * 3_000_000)) == (
        413,
        {"__type": "RequestEntityTooLarge", "message": "Expected at most 2097152 bytes"},
    )


@pytest.mark.parametrize("target", ["AWSEvents.PutRule", "", "nonsense"])
async def test_only_put_events_is_known(entrance: Entrance, target: str) -> None:
    await entrance.open()
    status, answer = await entrance.post(b"{}", {"X-Amz-Target": target})
    assert (status, answer["__type"]) == (400, "UnknownOperationException")


async def test_with_tokens_nobody_puts_events_without_one(entrance: Entrance) -> None:
    await entrance.open("127.0.0.1:0", "another", TOKEN)
    body = msgspec.json.encode({"Entries": [ENTRY]})
    for wrong in ({}, {"x-api-key": "wrong"}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer "}):
        status, answer = await entrance.post(body, HEADERS | wrong)
        assert (status, answer["__type"]) == (403, "AccessDeniedException")
        assert TOKEN not in str(answer)
    for right in ({"x-api-key": TOKEN}, {"Authorization": f"Bearer {TOKEN}"}):
        assert (await entrance.post(body, HEADERS | right))[0] == 200
    client = entrance.client()
    with pytest.raises(client.exceptions.ClientError, match="A token of \\[bus\\] is needed"):
        await entrance.put(ENTRY, client=client)

    def token(request: Any, **_: Any) -> None:
        request.headers["x-api-key"] = TOKEN

    client.meta.events.register("before-sign.events.PutEvents", token)
    assert (await entrance.put(ENTRY, client=client))["FailedEntryCount"] == 0


async def test_while_draining_it_takes_no_event(entrance: Entrance) -> None:
    bus = await entrance.open()
    await bus.drain(5)
    status, answer = await entrance.post(msgspec.json.encode({"Entries": [ENTRY]}))
    assert (status, answer["__type"]) == (503, "ServiceUnavailableException")


async def test_an_address_in_use_is_told(entrance: Entrance) -> None:
    await entrance.open()
    with pytest.raises(ConnectorError, match="choose another address with listen in \\[bus\\]"):
        await entrance.open(entrance.address.removeprefix("http://"))


async def test_it_listens_on_ipv6_too(entrance: Entrance) -> None:
    await entrance.open("[::1]:0")
    assert entrance.address.startswith("http://[::1]:")
    assert (await entrance.put(ENTRY))["FailedEntryCount"] == 0
