"""A whole node on a bucket: killed in the middle, and every object is announced once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.connectors.aws_s3.store import store
from tests.servers.aws import REGION, Servers
from tests.servers.process import free_port
from tests.servers.s3 import Bucket
from tests.support import running_node, until, write_project

CODE = """
    def handler(event, context):
        (record,) = event["Records"]
        return record["s3"]["object"]["key"]
"""


async def test_each_object_of_a_listing_is_announced_once_whatever_dies(servers: Servers, tmp_path: Path) -> None:
    async with Bucket.on(servers, "ministack") as photos, Bucket.on(servers, "ministack") as done:
        trigger = f'{{ type = "s3", bucket = "{photos.name}", prefix = "in/", every = "1s" }}'
        project = declared(tmp_path / "project", done, trigger)
        keys = [f"in/{number:03}.jpg" for number in range(120)]
        await photos.put_all(keys[:80])
        async with running_node(project, tmp_path / "data") as node:
            await until(done.keys, "the first records are there")
            await node.kill()
        await photos.put_all(keys[80:])
        async with running_node(project, tmp_path / "data"):
            await until(lambda: has_all(done, len(keys)), "all are done")
        await announced_once(done, keys)


async def test_each_post_of_a_store_is_announced_once_whatever_dies(servers: Servers, tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    async with Bucket.on(servers, "ministack") as done, store(f"http://{listen}/photos", "guess me") as photos:
        trigger = '{ type = "s3", notifications = "webhook", path = "/photos" }'
        project = declared(tmp_path / "project", done, trigger, f'listen = "{listen}"', 'webhook_token = "guess me"')
        keys = [f"in/{number:03}.jpg" for number in range(120)]
        for key in keys:
            photos.put(key)
        async with running_node(project, tmp_path / "data") as node:
            await until(lambda: 200 in photos.answers, "the first post is taken")
            await node.kill()
        async with running_node(project, tmp_path / "data"):
            await until(lambda: has_all(done, len(keys)), "all are done")
        assert photos.answers.count(200) == len(keys)
        await announced_once(done, keys)


def declared(folder: Path, done: Bucket, trigger: str, *shared: str) -> Path:
    """A project whose function has the trigger; what it was told is in `done`."""
    reached = "\n".join(
        [
            f'region = "{REGION}"',
            f'endpoint_url = "{done.settings.endpoint_url}"',
            'access_key_id = "test"',
            'secret_access_key = "secret"',
        ]
    )
    function = f"""
[functions.thumbnail]
handler = "work.handler"
on_success = "s3://{done.name}/done"
triggers = [{trigger}]
"""
    declaration = "\n".join(["[s3]", *shared, reached, "[destinations.s3]", reached, function])
    return write_project(folder, declaration, work=CODE)


async def has_all(bucket: Bucket, count: int) -> bool:
    return len(await bucket.keys()) >= count


async def announced_once(done: Bucket, keys: Sequence[str]) -> None:
    announced = defaultdict[str, list[str]](list)
    for key in await done.keys():
        content, _ = await done.get(key)
        said = msgspec.json.decode(content)
        announced[said["responsePayload"]].append(said["requestContext"]["requestId"])
    assert sorted(announced) == keys
    assert {len(requests) for requests in announced.values()} == {1}
