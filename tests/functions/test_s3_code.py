"""Code from S3, on servers that stand for it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestServer

from eventfn.aws.clients import Clients
from eventfn.functions import s3_code
from eventfn.functions.model import Aws
from eventfn.functions.refusals import Refusal
from eventfn_aws.client import Client
from tests.servers.aws import Servers, client
from tests.servers.process import free_port

REGION = "us-east-1"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp("aws"))
    yield servers
    servers.close()


@pytest.fixture(autouse=True)
def no_credentials_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")


@pytest_asyncio.fixture(params=["moto", "ministack"])
async def s3(request: pytest.FixtureRequest, servers: Servers) -> AsyncGenerator[tuple[Clients, Client]]:
    url = servers.get(request.param).url
    clients = Clients(Aws(endpoints={"s3": url}))
    async with client("s3", url, REGION) as outside:
        yield clients, outside
    await clients.close()


async def test_an_object_and_a_version_of_it(s3: tuple[Clients, Client]) -> None:
    code, outside = s3
    first, second = os.urandom(3_000_000), b"second"
    await outside.call("create_bucket", Bucket="code")
    await outside.call("put_bucket_versioning", Bucket="code", VersioningConfiguration={"Status": "Enabled"})
    version = (await outside.call("put_object", Bucket="code", Key="a/b c.zip", Body=first))["VersionId"]
    await outside.call("put_object", Bucket="code", Key="a/b c.zip", Body=second)
    assert await s3_code.fetch(code, "code", "a/b c.zip", None, REGION) == second
    found = await s3_code.fetch(code, "code", "a/b c.zip", version, REGION)
    assert hashlib.sha256(found).digest() == hashlib.sha256(first).digest()


async def test_what_is_not_there(s3: tuple[Clients, Client]) -> None:
    code, outside = s3
    await outside.call("create_bucket", Bucket="empty")
    with pytest.raises(Refusal) as refused:
        await s3_code.fetch(code, "nowhere", "key", None, REGION)
    assert (refused.value.code, refused.value.message) == (
        "InvalidParameterValueException",
        "Error occurred while GetObject. S3 Error Code: NoSuchBucket. "
        "S3 Error Message: The specified bucket does not exist",
    )
    with pytest.raises(Refusal) as refused:
        await s3_code.fetch(code, "empty", "key", None, REGION)
    assert (refused.value.code, refused.value.message) == (
        "InvalidParameterValueException",
        "Error occurred while GetObject. S3 Error Code: NoSuchKey. S3 Error Message: The specified key does not exist.",
    )
    with pytest.raises(Refusal, match="Error occurred while GetObject"):
        await s3_code.fetch(code, "Not A Bucket", "key", None, REGION)


async def test_no_more_is_read_than_may_be_code(s3: tuple[Clients, Client], monkeypatch: pytest.MonkeyPatch) -> None:
    code, outside = s3
    await outside.call("create_bucket", Bucket="large")
    await outside.call("put_object", Bucket="large", Key="exactly", Body=bytes(2_000_000))
    await outside.call("put_object", Bucket="large", Key="more", Body=bytes(2_000_001))
    monkeypatch.setattr(s3_code, "MAX_UNPACKED", 2_000_000)
    assert len(await s3_code.fetch(code, "large", "exactly", None, REGION)) == 2_000_000
    with pytest.raises(Refusal, match="Unzipped size must be smaller than 2000000 bytes"):
        await s3_code.fetch(code, "large", "more", None, REGION)


async def test_s3_that_is_not_there() -> None:
    clients = Clients(Aws(endpoint=f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(Refusal, match=r"Error occurred while GetObject\. s3 get_object: http://127"):
        await s3_code.fetch(clients, "bucket", "key", None, REGION)
    await clients.close()


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (404, "NoSuchVersion")])
async def test_s3_that_refuses(status: int, code: str) -> None:
    async def refuse(request: web.Request) -> web.Response:
        text = f"<Error><Code>{code}</Code><Message>No.</Message></Error>"
        return web.Response(status=status, text=text, content_type="application/xml")

    app = web.Application()
    app.router.add_get("/{path:.*}", refuse)
    async with TestServer(app) as server:
        clients = Clients(Aws(endpoint=str(server.make_url("/"))))
        with pytest.raises(Refusal, match=f"S3 Error Code: {code}. S3 Error Message: No.") as refused:
            await s3_code.fetch(clients, "bucket", "key", None, REGION)
        await clients.close()
    assert refused.value.code == ("AccessDeniedException" if status == 403 else "InvalidParameterValueException")


async def test_an_answer_that_is_cut() -> None:
    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.close()
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", cut)
    async with TestServer(app) as server:
        clients = Clients(Aws(endpoint=str(server.make_url("/"))))
        with pytest.raises(Refusal, match=r"Error occurred while GetObject\. "):
            await s3_code.fetch(clients, "bucket", "key", None, REGION)
        await clients.close()


async def test_the_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "aiobotocore.session", None)
    clients = Clients(Aws(endpoint="http://127.0.0.1:1"))
    with pytest.raises(
        Refusal, match="aiobotocore is not installed, which talks to s3: pip install 'eventfn\\[aws\\]'"
    ):
        await s3_code.fetch(clients, "bucket", "key", None, REGION)
