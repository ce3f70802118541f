"""A node with buses, as a user runs it: events of functions and of an SDK, and kill -9 in the middle of routing."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import functools
import json
import random
from pathlib import Path
from typing import Any

import aiohttp

from tests.support import RunningNode, command, running_node, until, write_project

KILLS = 6
MOST_PER_LIFE = 120
SEED = 20_261_121

PROJECT = """
    [bus]
    listen = "127.0.0.1:0"

    [queues.copies]
    [queues.texts]

    [bus.rules.copies]
    bus = "orders"
    event_pattern = { source = ["shop", "lambda"] }
    targets = [{ uri = "queue:copies" }]

    [bus.rules.texts]
    bus = "orders"
    event_pattern = { source = ["shop", "lambda"] }

    [[bus.rules.texts.targets]]
    uri = "queue:texts"
    input_transformer.input_template = '"<aws.events.rule-name>: <type>"'
    input_transformer.input_paths_map = { type = "$.detail-type" }

    [functions.shop]
    handler = "work.shop"
    on_success = "bus:orders"

    [functions.bill]
    handler = "work.bill"
    on_success = "queue:bills"

    [[functions.bill.triggers]]
    type = "bus"
    bus = "orders"
    event_pattern = { source = ["shop", "lambda"] }
"""

WORK = """
    def shop(event, context):
        return {"total": event["total"]}

    def bill(event, context):
        return event["id"]
"""


async def address(node: RunningNode) -> str:
    status = await node.json("GET", "/status")
    return next(f"http://{each['address']}/" for each in status["addresses"] if each["name"] == "bus")


async def put(session: aiohttp.ClientSession, url: str, *details: Any, source: str = "shop") -> list[str]:
    """The ids of the events that were taken."""
    entries = [
        {"Source": source, "DetailType": "Placed", "Detail": json.dumps(each), "EventBusName": "orders"}
        for each in details
    ]
    headers = {"X-Amz-Target": "AWSEvents.PutEvents"}
    async with session.post(url, json={"Entries": entries}, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        return [entry["EventId"] for entry in (await answer.json(content_type=None))["Entries"]]


async def bodies(node: RunningNode, queue: str) -> list[Any]:
    return [json.loads(message["body"]) for message in await node.messages(queue)]


async def test_events_of_functions_and_of_sdks_are_routed(tmp_path: Path) -> None:
    folder = write_project(tmp_path / "project", PROJECT, work=WORK)
    async with running_node(folder, tmp_path / "data") as node, aiohttp.ClientSession() as session:
        await node.submit("shop", {"total": 7})
        (put_id,) = await put(session, await address(node), {"total": 8})

        async def billed() -> bool:
            return len(await bodies(node, "bills")) == 2

        await until(billed, "both events were billed")
        copies = {event["source"]: event for event in await bodies(node, "copies")}
        assert {event["responsePayload"] for event in await bodies(node, "bills")} == {
            put_id,
            copies["lambda"]["id"],
        }
        assert copies["lambda"]["detail-type"] == "Lambda Function Invocation Result - Success"
        assert copies["lambda"]["detail"]["responsePayload"] == {"total": 7}
        assert copies["lambda"]["resources"] == [
            "arn:aws:events:us-east-1:000000000000:event-bus/orders",
            "arn:aws:lambda:us-east-1:000000000000:function:shop:$LATEST",
        ]
        assert copies["shop"]["detail"] == {"total": 8}
        texts = {"texts: Placed", "texts: Lambda Function Invocation Result - Success"}
        assert set(await bodies(node, "texts")) == texts
        assert "bus" in node.output()


async def test_a_bus_without_an_address_and_without_functions(tmp_path: Path) -> None:
    declaration = """
        [queues.all]

        [bus.rules.all]
        event_pattern = { source = ["lambda"] }
        targets = [{ uri = "queue:all" }]

        [functions.f]
        handler = "work.f"
        on_success = "bus:default"
    """
    folder = write_project(tmp_path / "project", declaration, work="def f(event, context): return event")
    async with running_node(folder, tmp_path / "data") as node:
        await node.submit("f", 1)

        async def arrived() -> bool:
            return len(await bodies(node, "all")) == 1

        await until(arrived, "the event is in the queue")
        status = await node.json("GET", "/status")
        assert "bus" not in {each["name"] for each in status["addresses"]}


def test_check_names_what_is_wrong_with_rules(tmp_path: Path) -> None:
    declaration = """
        [bus.rules.all]
        event_pattern = { source = ["lambda"] }
        targets = [{ uri = "queue:all" }, { uri = "qeue:all" }, { uri = "fn:g" }, { uri = "bus:a b" }, { uri = "all" }]

        [functions.f]
        handler = "work.f"

        [[functions.f.triggers]]
        type = "bus"
        rule = "a"
        event_pattern = { source = ["x"] }

        [[functions.f.triggers]]
        type = "bus"
        rule = "a"
        event_pattern = { source = ["y"] }
    """
    folder = write_project(tmp_path, declaration, work="def f(event, context): ...")
    found = command("check", str(folder))
    assert found.returncode == 1
    text = found.stdout + found.stderr
    assert "bus.rules.all.targets[1].uri: no destination is called 'qeue'" in text
    assert "bus.rules.all.targets[2].uri: no function is called 'g'" in text
    assert "bus.rules.all.targets[3].uri: expected the name of a bus" in text
    assert 'bus.rules.all.targets[4].uri: expected a destination such as "queue:all"' in text
    assert "functions.f.triggers[1].rule: bus default has a rule called a already" in text


async def test_kill_9_in_the_middle_of_routing_loses_nothing(tmp_path: Path) -> None:
    """Every event whose EventId was answered reaches each target, once."""
    chance = random.Random(SEED)
    folder = write_project(tmp_path / "project", PROJECT, work=WORK)
    data = tmp_path / "data"
    taken: list[str] = []

    async def load(node: RunningNode) -> None:
        url = await address(node)
        async with aiohttp.ClientSession() as session:
            with contextlib.suppress(aiohttp.ClientError):
                for _ in range(MOST_PER_LIFE // 5):
                    taken.extend(await put(session, url, *({"number": number} for number in range(5))))

    for _ in range(KILLS):
        node = RunningNode(folder, data)
        await node.start()
        loading = asyncio.create_task(load(node))
        enough = len(taken) + chance.randrange(5, MOST_PER_LIFE, 5)
        await until(functools.partial(_has, taken, enough), "events are taken")
        await node.kill()
        await loading
    async with running_node(folder, data) as node:

        async def all_there() -> bool:
            return not [queue for queue in ("copies", "bills") if await _missing(node, queue, taken)]

        await until(all_there, f"{len(taken)} events reach both targets")
        for queue in ("copies", "bills"):
            twice = [each for each, count in (await _counts(node, queue)).items() if count > 1]
            assert not twice, f"{len(twice)} of {len(taken)} events are twice in {queue}"
        assert not await node.messages("dead-letters")


def _has(taken: list[str], count: int) -> bool:
    return len(taken) >= count


async def _counts(node: RunningNode, queue: str) -> collections.Counter[str]:
    found = await bodies(node, queue)
    return collections.Counter(each["id"] if queue == "copies" else each["responsePayload"] for each in found)


async def _missing(node: RunningNode, queue: str, taken: list[str]) -> set[str]:
    return set(taken) - set(await _counts(node, queue))
