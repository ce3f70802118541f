"""A resource behind the API, as boto3 and as a raw client see it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import botocore.exceptions
import pytest
from aiohttp.test_utils import TestClient

from eventfn.api.app import application
from eventfn.api.errors import conflict
from eventfn.api.operations import Answer, Call, Handler
from eventfn.errors import EventfnBug
from tests.api.boto import boto_client
from tests.api.fake_node import TOKEN, FakeNode
from tests.api.listening import Listening

Client = TestClient[Any, Any]


class Stub:
    """Remembers its calls."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.closed = asyncio.Event()

    def operations(self) -> Mapping[str, Handler]:
        return {
            "GetAlias": self._get,
            "TagResource": self._nothing,
            "UpdateFunctionCode": self._get,
            "DeleteAlias": self._conflict,
            "ListAliases": self._bug,
            "GetPolicy": self._endless,
        }

    async def _get(self, call: Call) -> Answer:
        self.calls.append(call)
        return Answer({"Name": call.input.get("Name", ""), "Description": "é"})

    async def _nothing(self, call: Call) -> Answer:
        self.calls.append(call)
        return Answer()

    async def _conflict(self, call: Call) -> Answer:
        raise conflict("not now")

    async def _bug(self, call: Call) -> Answer:
        raise RuntimeError("secret detail")

    async def _endless(self, call: Call) -> Answer:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 65_536
                    await asyncio.sleep(0)
            finally:
                self.closed.set()

        return Answer(chunks(), headers={"Content-Type": "application/octet-stream"})


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
async def served(node: FakeNode, stub: Stub) -> AsyncIterator[Client]:
    async with Client(Listening(node, TOKEN, resources=[stub])) as client:
        yield client


Boto = Callable[..., Any]


@pytest.fixture
def boto(served: Client) -> Boto:
    """`await boto("get_alias", ...)`: boto3 in a thread."""
    functions = boto_client("lambda", str(served.make_url("")), "eu-central-1", access_key_id="AKIATEST")

    async def call(method: str, **given: Any) -> Any:
        return await asyncio.to_thread(getattr(functions, method), **given)

    return call


async def test_boto3_reaches_a_handler_and_reads_its_answer(boto: Boto, stub: Stub) -> None:
    arn = "arn:aws:lambda:us-east-1:000000000000:function:f"
    answer = await boto("get_alias", FunctionName=arn, Name="prod")
    assert (answer["Name"], answer["Description"]) == ("prod", "é")
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    (call,) = stub.calls
    assert (call.operation, call.input) == ("GetAlias", {"FunctionName": arn, "Name": "prod"})
    assert call.principal.arn == "arn:aws:iam::000000000000:root"
    assert call.base_url.startswith("http://127.0.0.1:")
    assert answer["ResponseMetadata"]["RequestId"] == call.request_id


async def test_a_body_a_blob_and_an_empty_answer(boto: Boto, stub: Stub) -> None:
    code = bytes(range(256)) * 40_000  # 10 MB: more than an invocation may have
    await boto("update_function_code", FunctionName="f", ZipFile=code, Publish=True)
    assert stub.calls[0].input == {"FunctionName": "f", "ZipFile": code, "Publish": True}
    arn = "arn:aws:lambda:us-east-1:000000000000:function:f"
    answer = await boto("tag_resource", Resource=arn, Tags={"a": "b"})
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert stub.calls[1].input == {"Resource": arn, "Tags": {"a": "b"}}


async def test_boto3_gets_the_error_of_a_handler(boto: Boto) -> None:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        await boto("delete_alias", FunctionName="f", Name="prod")
    assert caught.value.response["Error"] == {"Code": "ResourceConflictException", "Message": "not now"}
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409


async def test_boto3_gets_the_violations_of_the_model(boto: Boto, stub: Stub) -> None:
    with pytest.raises(
        botocore.exceptions.ClientError, match="at 'name' failed to satisfy constraint: Member"
    ) as caught:
        await boto("get_alias", FunctionName="f", Name="7")
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert stub.calls == []


async def test_a_bug_is_told_without_detail(served: Client) -> None:
    answer = await served.get("/2015-03-31/functions/f/aliases", headers={"Authorization": f"Bearer {TOKEN}"})
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (500, "ServiceException")
    assert "secret" not in await answer.text()


@pytest.mark.parametrize("path", ["/2015-03-31/functions/f/configuration", "/2015-03-31/nothing"])
async def test_what_nobody_handles_is_an_unknown_operation(served: Client, path: str) -> None:
    answer = await served.get(path, headers={"Authorization": f"Bearer {TOKEN}"})
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (404, "UnknownOperationException")


async def test_neither_token_nor_signature_reaches_a_handler(served: Client, stub: Stub) -> None:
    path = "/2015-03-31/functions/f/aliases/prod"
    for given in ("", "Bearer no", "Basic eA==", "AWS4-HMAC"):
        answer = await served.get(path, headers={"Authorization": given})
        assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (403, "MissingAuthenticationTokenException")
    answer = await served.get(path, headers={"Authorization": "AWS4-HMAC-SHA256 Credential=x"})
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (403, "IncompleteSignatureException")
    assert stub.calls == []


async def test_a_signature_is_for_lambdas_api_only(served: Client) -> None:
    answer = await served.get("/status", headers={"Authorization": "AWS4-HMAC-SHA256 Credential=x"})
    assert answer.status == 403


@pytest.mark.parametrize(("method", "path"), [("PUT", "functions/f/code"), ("POST", "tags/x")])
async def test_a_body_that_is_too_large_is_not_read(served: Client, stub: Stub, method: str, path: str) -> None:
    reader, writer = await asyncio.open_connection(served.host, served.port)
    day = "2017-03-31" if "tags" in path else "2015-03-31"
    head = f"{method} /{day}/{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
    writer.write(f"{head}Content-Length: 99999999\r\n\r\n".encode())
    await writer.drain()
    assert b" 413 " in await reader.readline()
    writer.close()
    await writer.wait_closed()
    assert stub.calls == []


async def test_a_stream_ends_when_its_reader_has_gone(served: Client, stub: Stub) -> None:
    reader, writer = await asyncio.open_connection(served.host, served.port)
    head = f"GET /2015-03-31/functions/f/policy HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    writer.write(head.encode())
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    await reader.readexactly(1_000_000)
    writer.close()
    await asyncio.wait_for(stub.closed.wait(), 20)


def test_two_handlers_of_one_operation_are_a_bug(node: FakeNode) -> None:
    with pytest.raises(EventfnBug, match="Stub handles GetAlias"):
        application(node, TOKEN, resources=[Stub(), Stub()])
