"""Function URLs as callers see them: made by boto3, answered by a real node with real environments."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
import pytest_asyncio
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from eventfn.engine.contract import Put
from eventfn.engine.sqlite import SqliteEngine
from tests.api.boto import REGION, Api
from tests.support import RunningNode, running_node, until, write_project

TOML = """
[functions.echo]
handler = "work.echo"

[functions.stream]
handler = "work.stream"

[functions.endless]
handler = "work.endless"
timeout = "60s"

[functions.none]
handler = "work.echo"
reserved_concurrency = 0
"""
WORK = """
def echo(event, context):
    if event["rawPath"] == "/fails":
        raise ValueError("no")
    return {"statusCode": 201, "headers": {"Access-Control-Allow-Origin": "mine"}, "cookies": ["a=1"], "body": event}

def stream(event, context):
    if event["rawPath"] == "/whole":
        return {"statusCode": 404}
    return pieces(event)

def pieces(event):
    yield {"statusCode": 202, "headers": {"content-type": "text/plain"}}
    yield "one "
    if event["rawPath"] == "/breaks":
        raise ValueError("half-way")
    yield "two"

def endless(event, context):
    while True:
        yield bytes(100_000)
"""
KEYS = """
[aws]

[[aws.keys]]
access_key_id = "AKIAOWNER"
secret_access_key = "owners-secret"
principal = "arn:aws:iam::000000000000:user/owner"

[[aws.keys]]
access_key_id = "AKIAGUEST"
secret_access_key = "guests-secret"
principal = "arn:aws:iam::111111111111:user/guest"
"""
FOR_ALL = {"Action": "lambda:InvokeFunctionUrl", "Principal": "*", "FunctionUrlAuthType": "NONE"}
FORBIDDEN = {
    "Message": "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
}


class Caller:
    """Whoever calls URLs: names are resolved here as the machine would resolve *.localhost."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    def ask(self, url: str, path: str = "", method: str = "GET", **options: Any) -> Any:
        address = urlsplit(url)
        headers = {"Host": address.netloc, **options.pop("headers", {})}
        return self._session.request(method, f"http://127.0.0.1:{address.port}/{path}", headers=headers, **options)

    async def __call__(self, url: str, path: str = "", method: str = "GET", **options: Any) -> tuple[int, Any, bytes]:
        async with self.ask(url, path, method, **options) as answer:
            return answer.status, answer.headers, await answer.read()


@pytest_asyncio.fixture
async def call() -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession() as session:
        yield Caller(session)


@pytest_asyncio.fixture
async def node(tmp_path: Path) -> AsyncIterator[RunningNode]:
    folder = write_project(tmp_path / "project", TOML, work=WORK)
    async with running_node(folder, tmp_path / "data") as node:
        yield node


@pytest.fixture
def api(node: RunningNode) -> Api:
    return Api(node.admin)


async def open_to_all(api: Api, function: str, **more: Any) -> str:
    """Its URL, for anybody."""
    made = await api("create_function_url_config", FunctionName=function, AuthType="NONE", **more)
    await permit(api, function, "NONE", "*")
    return str(made["FunctionUrl"])


async def permit(api: Api, function: str, auth_type: str, principal: str, **more: Any) -> None:
    """Both actions that a URL asks for."""
    name = f"by-{principal[-5:]}".replace("*", "all")
    given = {"FunctionName": function, "Principal": principal, **more}
    url = {"StatementId": name, "Action": "lambda:InvokeFunctionUrl", "FunctionUrlAuthType": auth_type}
    invoke = {"StatementId": f"{name}-through-it", "Action": "lambda:InvokeFunction", "InvokedViaFunctionUrl": True}
    await api("add_permission", **given, **url)
    await api("add_permission", **given, **invoke)


async def test_a_url_is_answered_as_soon_as_it_is_made(node: RunningNode, api: Api, call: Caller) -> None:
    assert node.http == "", "nothing of it is declared: no listener is open"
    url = await open_to_all(api, "echo")
    host = urlsplit(url).hostname or ""
    url_id = host.partition(".")[0]
    assert host == f"{url_id}.lambda-url.{REGION}.localhost"
    status, headers, body = await call(url, "a%20b?p=1&p=2", "POST", data=b"hi", headers={"Content-Type": "text/x"})
    assert status == 201
    assert headers["set-cookie"] == "a=1"
    event = json.loads(body)
    assert event["version"] == "2.0"
    assert (event["routeKey"], event["rawPath"], event["rawQueryString"]) == ("$default", "/a%20b", "p=1&p=2")
    assert event["queryStringParameters"] == {"p": "1,2"}
    assert (event["body"], event["isBase64Encoded"]) == ("hi", False)
    context = event["requestContext"]
    assert (context["accountId"], context["apiId"], context["stage"]) == ("anonymous", url_id, "$default")
    assert (context["domainName"], context["domainPrefix"]) == (host, url_id)
    assert "authorizer" not in context
    assert "pathParameters" not in event
    assert context["requestId"] == headers["x-amzn-RequestId"]


async def test_nobody_may_before_a_policy_says_so_and_none_when_it_does_not_any_more(api: Api, call: Caller) -> None:
    made = await api("create_function_url_config", FunctionName="echo", AuthType="NONE")
    url = made["FunctionUrl"]
    status, headers, body = await call(url)
    assert (status, json.loads(body)) == (403, FORBIDDEN)
    assert headers["x-amzn-ErrorType"] == "AccessDeniedException"
    await permit(api, "echo", "NONE", "*")
    assert (await call(url))[0] == 201
    for statement in ("by-all", "by-all-through-it"):  # it takes both
        await api("remove_permission", FunctionName="echo", StatementId=statement)
        assert (await call(url))[0] == 403
        if statement == "by-all":
            await api("add_permission", FunctionName="echo", StatementId="by-all", **FOR_ALL)
            assert (await call(url))[0] == 201
    await api("remove_permission", FunctionName="echo", StatementId="by-all")
    await permit(api, "echo", "AWS_IAM", "*")  # of another kind of URL
    assert (await call(url))[0] == 403


async def test_a_url_that_was_made_before_both_were_asked_for_goes_on(tmp_path: Path, call: Caller) -> None:
    folder = write_project(tmp_path / "project", TOML, work=WORK)
    async with running_node(folder, tmp_path / "data") as node:
        api = Api(node.admin)
        made = await api("create_function_url_config", FunctionName="echo", AuthType="NONE")
        await api("add_permission", FunctionName="echo", StatementId="all", **FOR_ALL)
        assert (await call(made["FunctionUrl"]))[0] == 403
    engine = SqliteEngine(tmp_path / "data")
    await engine.open(0)
    try:
        key = "lambda/declared/echo"
        document = (await engine.scan(key))[key]
        before = document.replace(b',"AsksForBoth":true', b"")
        assert before != document
        await engine.commit([Put(key, before)], 0)
    finally:
        await engine.close()
    async with running_node(folder, tmp_path / "data") as node:
        config = await Api(node.admin)("get_function_url_config", FunctionName="echo")
        assert (await call(config["FunctionUrl"]))[0] == 201


async def test_a_url_that_there_is_not_is_forbidden(api: Api, call: Caller) -> None:
    url = await open_to_all(api, "echo")
    unknown = url.replace(urlsplit(url).netloc.partition(".")[0], "0" * 32)
    status, headers, body = await call(unknown)
    assert (status, json.loads(body)) == (403, {"Message": None})
    assert headers["x-amzn-ErrorType"] == "AccessDeniedException"
    await api("delete_function_url_config", FunctionName="echo")
    with pytest.raises(aiohttp.ClientConnectionError):  # it was the last one, and nothing else needs the listener
        await call(url)


async def test_failures_throttles_and_large_bodies(api: Api, call: Caller) -> None:
    url = await open_to_all(api, "echo")
    status, _, body = await call(url, "fails")
    assert (status, body) == (502, b"Internal Server Error")
    large = io.BytesIO(bytes(5_000_000))  # it grows beyond the limit as base64
    assert (await call(url, "", "POST", data=large))[0] == 413
    assert (await call(await open_to_all(api, "none")))[0] == 429


async def test_other_origins_are_told_what_the_config_says_and_not_what_the_function_does(
    api: Api, call: Caller
) -> None:
    cors = {
        "AllowOrigins": ["https://a.example"],
        "AllowMethods": ["GET"],
        "AllowHeaders": ["x-a"],
        "ExposeHeaders": ["x-b"],
        "AllowCredentials": True,
        "MaxAge": 60,
    }
    url = await open_to_all(api, "echo", Cors=cors)
    asking = {"Origin": "https://a.example", "Access-Control-Request-Method": "GET"}
    status, headers, body = await call(url, "", "OPTIONS", headers=asking)
    assert (status, body) == (200, b"")
    told = {name.lower(): value for name, value in headers.items() if name.lower().startswith("access-control-")}
    assert told == {
        "access-control-allow-origin": "https://a.example",
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "GET",
        "access-control-allow-headers": "x-a",
        "access-control-max-age": "60",
    }
    status, headers, _ = await call(url, headers={"Origin": "https://a.example"})
    assert status == 201
    assert headers.getall("access-control-allow-origin") == ["https://a.example"]
    assert (headers["access-control-expose-headers"], headers["vary"]) == ("x-b", "Origin")
    for origin in ({"Origin": "https://b.example"}, {}):
        _, headers, _ = await call(url, headers=origin)
        assert "access-control-allow-origin" not in headers
    _, _, body = await call(await open_to_all(api, "stream"), "", "OPTIONS", headers=asking)
    assert b"one two" in body, "without CORS the function answers OPTIONS itself"


async def test_chunks_arrive_while_the_function_runs(node: RunningNode, api: Api, call: Caller) -> None:
    url = await open_to_all(api, "stream", InvokeMode="RESPONSE_STREAM")
    status, headers, body = await call(url)
    assert (status, headers["content-type"], body) == (202, "text/plain", b"one two")
    assert headers["transfer-encoding"] == "chunked"
    status, headers, body = await call(url, "whole")
    assert (status, json.loads(body)) == (200, {"statusCode": 404}), "in one piece it is sent as it is"
    with pytest.raises(aiohttp.ClientPayloadError):
        await call(url, "breaks")
    endless = await open_to_all(api, "endless", InvokeMode="RESPONSE_STREAM")
    async with call.ask(endless) as answer:
        assert len(await answer.content.readexactly(1_000_000)) == 1_000_000
        answer.close()

    async def closed() -> bool:
        in_flight: int = (await node.function("endless"))["environments"]["in_flight"]
        return in_flight == 0

    await until(closed, "the generator is closed when its client has left")


async def test_an_updated_config_counts_at_once_and_all_of_it_after_a_restart(tmp_path: Path, call: Caller) -> None:
    folder = write_project(tmp_path / "project", TOML, work=WORK)
    async with running_node(folder, tmp_path / "data") as node:
        api = Api(node.admin)
        url = await open_to_all(api, "stream")
        assert (await call(url))[1]["content-length"] == "7", "put together into one answer"
        await api("update_function_url_config", FunctionName="stream", InvokeMode="RESPONSE_STREAM")
        assert (await call(url))[1]["transfer-encoding"] == "chunked"
    async with running_node(folder, tmp_path / "data") as node:
        found = await Api(node.admin)("get_function_url_config", FunctionName="stream")
        assert urlsplit(str(found["FunctionUrl"])).hostname == urlsplit(url).hostname
        assert node.http, "it is open before the node is announced"
        assert (await call(found["FunctionUrl"]))[1]["transfer-encoding"] == "chunked"


def signed(url: str, access_key: str, secret: str, method: str = "GET", body: bytes = b"") -> dict[str, str]:
    made: Any = AWSRequest(method=method, url=url, data=body, headers={"Host": urlsplit(url).netloc})
    signer: Any = SigV4Auth(Credentials(access_key, secret), "lambda", REGION)
    signer.add_auth(made)
    return dict(made.headers.items())


async def test_who_signs_may_as_policies_say(tmp_path: Path, call: Caller) -> None:
    folder = write_project(tmp_path / "project", TOML + KEYS, work=WORK)
    async with running_node(folder, tmp_path / "data") as node:
        api = Api(node.admin, access_key_id="AKIAOWNER", secret_access_key="owners-secret")
        made = await api("create_function_url_config", FunctionName="echo", AuthType="AWS_IAM")
        url = made["FunctionUrl"]
        assert (await call(url))[0] == 403
        status, _, body = await call(url, headers=signed(url, "AKIAOWNER", "owners-secret"))
        assert status == 201, "he is of the account, and no policy limits him"
        assert json.loads(body)["requestContext"]["authorizer"]["iam"] == {
            "accessKey": "AKIAOWNER",
            "accountId": "000000000000",
            "callerId": "AKIAOWNER",
            "cognitoIdentity": None,
            "principalOrgId": None,
            "userArn": "arn:aws:iam::000000000000:user/owner",
            "userId": "AKIAOWNER",
        }
        status, _, body = await call(url, headers=signed(url, "AKIAOWNER", "guessed"))
        assert status == 403
        assert "signature we calculated does not match" in json.loads(body)["Message"]
        guest = signed(url, "AKIAGUEST", "guests-secret", "POST", b"hi")
        assert (await call(url, "", "POST", data=b"hi", headers=guest))[0] == 403
        await permit(api, "echo", "AWS_IAM", "111111111111")
        assert (await call(url, "", "POST", data=b"hi", headers=guest))[0] == 201
        assert (await call(url, "", "POST", data=b"other", headers=guest))[0] == 403


async def test_the_url_of_an_alias_outlives_it_and_is_nobodys_then(node: RunningNode, call: Caller) -> None:
    api = Api(node.admin)
    made = await api(
        "create_function",
        FunctionName="made",
        Runtime="python3.11",
        Handler="app.handler",
        Role="arn:aws:iam::000000000000:role/r",
        Code={"ZipFile": archive("def handler(event, context): return context.function_version")},
        Publish=True,
    )
    assert made["Version"] == "1"
    await asyncio.to_thread(api.client.get_waiter("function_active_v2").wait, FunctionName="made", WaiterConfig=SOON)
    await api("create_alias", FunctionName="made", Name="live", FunctionVersion="1")
    config = await api("create_function_url_config", FunctionName="made", Qualifier="live", AuthType="NONE")
    await permit(api, "made", "NONE", "*", Qualifier="live")
    assert (await call(config["FunctionUrl"]))[2] == b"1"
    await api("delete_alias", FunctionName="made", Name="live")
    status, _, body = await call(config["FunctionUrl"])
    assert (status, json.loads(body)) == (403, FORBIDDEN)


SOON = {"Delay": 1, "MaxAttempts": 60}


def archive(source: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.writestr("app.py", source)
    return buffer.getvalue()
