"""Who may do what, as boto3 and forgers find out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import boto3
import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import botocore.exceptions
import pytest
from aiohttp.test_utils import TestClient
from yarl import URL

from eventfn.api.operations import Answer, Call, Handler
from eventfn.api.policies import Policies
from eventfn.api.signatures import SKEW
from eventfn.clock import SystemClock
from eventfn.functions.model import AccessKey, Aws
from eventfn.testing import FakeClock
from tests.api.fake_node import TOKEN, FakeNode
from tests.api.listening import Listening

Client = TestClient[Any, Any]
ACCOUNT = "000000000000"
HELLO = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:hello"
SECRET = "not-a-real-secret-0123456789"


def key(name: str, principal: str, policy: tuple[dict[str, Any], ...] | None = None) -> AccessKey:
    return AccessKey(access_key_id=name, secret_access_key=SECRET, principal=principal, policy=policy)


def allow(action: str | list[str], resource: str = "*", effect: str = "Allow") -> dict[str, Any]:
    return {"Effect": effect, "Action": action, "Resource": resource}


KEYS = (
    key("ROOT", f"arn:aws:iam::{ACCOUNT}:root"),
    key("READER", f"arn:aws:iam::{ACCOUNT}:user/reader", (allow("lambda:Get*", HELLO),)),
    key("ALL", f"arn:aws:iam::{ACCOUNT}:user/all", (allow("*"), allow("lambda:InvokeFunction", "*", "Deny"))),
    key("NONE", f"arn:aws:iam::{ACCOUNT}:user/none", ()),
    key("OTHER", "arn:aws:iam::111111111111:user/other", (allow("*"),)),
    key("ROLE", f"arn:aws:iam::{ACCOUNT}:role/strong", (allow("*"),)),
)


class Remembering:
    """Invoke and GetAlias, which remember who has asked."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def operations(self) -> Mapping[str, Handler]:
        return dict.fromkeys(("Invoke", "GetAlias", "ListFunctions", "DeleteFunction"), self._answer)

    async def _answer(self, call: Call) -> Answer:
        self.calls.append(call)
        return Answer({})


@pytest.fixture
def asked() -> Remembering:
    return Remembering()


@pytest.fixture
async def keyed(node: FakeNode, asked: Remembering) -> AsyncIterator[Client]:
    node.aws = Aws(keys=KEYS)
    node.control.clock = SystemClock()
    await node.control.engine.open(0)
    listening = Listening(node, TOKEN, resources=[asked, Policies(node.control)], loopback=False)
    async with Client(listening) as client:
        yield client


def boto(
    client: Client, access_key_id: str, secret: str = SECRET, token: str | None = None, region: str = "us-east-1"
) -> Any:
    made: Any = boto3
    return made.client(
        "lambda",
        region_name=region,
        endpoint_url=str(client.make_url("")),
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=botocore.config.Config(retries={"total_max_attempts": 1}),
    )


async def call(client: Any, operation: str, **given: Any) -> Any:
    return await asyncio.to_thread(getattr(client, operation), **given)


async def refused(client: Any, operation: str, **given: Any) -> tuple[str, str]:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        await call(client, operation, **given)
    error = caught.value.response["Error"]
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    return error["Code"], error["Message"]


# --- who it is --------------------------------------------------------------------------------------------------------


async def test_a_right_signature_says_who_and_where(keyed: Client, asked: Remembering) -> None:
    root = boto(keyed, "ROOT", region="eu-west-1")
    await call(root, "invoke", FunctionName="hello", Payload=b'{"a": 1}', LogType="Tail")
    (seen,) = asked.calls
    assert (seen.principal.arn, seen.region) == (f"arn:aws:iam::{ACCOUNT}:root", "eu-west-1")
    assert seen.input["Payload"] == b'{"a": 1}'


@pytest.mark.parametrize(
    ("name", "secret", "code"),
    [
        ("ROOT", "another-secret-0123456789", "InvalidSignatureException"),
        ("NOBODY", SECRET, "UnrecognizedClientException"),
        ("root", SECRET, "UnrecognizedClientException"),
    ],
)
async def test_a_wrong_signature_reaches_nobody(
    keyed: Client, asked: Remembering, name: str, secret: str, code: str
) -> None:
    assert (await refused(boto(keyed, name, secret), "get_alias", FunctionName="hello", Name="a"))[0] == code
    assert asked.calls == []


async def test_a_signature_for_another_service_is_refused(keyed: Client, asked: Remembering) -> None:
    request = signed(keyed, "GET", "/2015-03-31/functions", service="sqs")
    answer = await keyed.get("/2015-03-31/functions", headers=request)
    assert answer.headers["x-amzn-ErrorType"] == "InvalidSignatureException"
    assert (await answer.json())["Message"] == "Credential should be scoped to correct service: 'lambda'."
    assert asked.calls == []


def signed(client: Client, method: str, path: str, body: bytes = b"", *, service: str = "lambda") -> dict[str, str]:
    credentials = botocore.credentials.Credentials("ROOT", SECRET)
    request: Any = botocore.awsrequest.AWSRequest(method, str(client.make_url(path)), data=body)
    botocore.auth.SigV4Auth(credentials, service, "us-east-1").add_auth(request)
    return dict(request.headers.items())


async def test_a_request_can_be_replayed_for_five_minutes_and_no_longer(
    keyed: Client, asked: Remembering, node: FakeNode
) -> None:
    headers = signed(keyed, "GET", "/2015-03-31/functions")
    for _ in range(2):
        assert (await keyed.get("/2015-03-31/functions", headers=headers)).status == 200
    assert len(asked.calls) == 2
    clock = FakeClock()
    await clock.advance((SystemClock().now_ms() - clock.now_ms()) / 1000 + SKEW + 5)
    node.control.clock = clock
    listening = Listening(node, TOKEN, resources=[asked], loopback=False)
    async with Client(listening) as late:
        answer = await late.get("/2015-03-31/functions", headers={**headers, "Host": f"127.0.0.1:{keyed.port}"})
        assert (await answer.json())["Message"].startswith("Signature expired: ")
    assert len(asked.calls) == 2


async def test_what_was_signed_cannot_be_changed(keyed: Client, asked: Remembering) -> None:
    path = "/2015-03-31/functions/hello/invocations"
    headers = signed(keyed, "POST", path, b"{}")
    assert (await keyed.post(path, data=b"{}", headers=headers)).status == 200
    for target, body, more in (
        (path, b"[]", {}),
        (path + "?Qualifier=1", b"{}", {}),
        (path.replace("hello", "thumbnail"), b"{}", {}),
        (path, b"{}", {"X-Amz-Invocation-Type": "Event"}),
    ):
        answer = await keyed.post(target, data=body, headers={**headers, **more})
        assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (403, "InvalidSignatureException")
    assert len(asked.calls) == 1


async def test_a_body_that_breaks_off_reaches_nobody(keyed: Client, asked: Remembering) -> None:
    path = "/2015-03-31/functions/hello/invocations"
    head = "".join(f"{name}: {value}\r\n" for name, value in signed(keyed, "POST", path, b"{}").items())
    reader, writer = await asyncio.open_connection(keyed.host, keyed.port)
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: {keyed.host}:{keyed.port}\r\n{head}Content-Length: 2\r\n\r\n{{".encode()
    )
    writer.write_eof()
    assert b"200" not in await reader.read()
    writer.close()
    await writer.wait_closed()
    assert asked.calls == []


async def test_presigned_urls(keyed: Client, asked: Remembering) -> None:
    made = boto(keyed, "ROOT").generate_presigned_url("get_alias", {"FunctionName": "hello", "Name": "a"}, 60)
    assert (await keyed.session.get(URL(made, encoded=True))).status == 200
    for changed in (made.replace("/aliases/a", "/aliases/b"), made + "0", made.replace("Expires=60", "Expires=600")):
        answer = await keyed.session.get(URL(changed, encoded=True))
        assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (403, "InvalidSignatureException")
    assert len(asked.calls) == 1


# --- without keys -----------------------------------------------------------------------------------------------------


async def test_without_keys_any_signature_is_the_root_on_loopback(node: FakeNode, asked: Remembering) -> None:
    async with Client(Listening(node, TOKEN, resources=[asked])) as client:
        await call(boto(client, "ANY", "thing", region="eu-west-1"), "get_alias", FunctionName="hello", Name="a")
        presigned = boto(client, "ANY").generate_presigned_url("get_alias", {"FunctionName": "hello", "Name": "a"}, 60)
        answer = await client.session.get(URL(presigned, encoded=True))  # as a web page can send it
        assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (403, "MissingAuthenticationTokenException")
    assert [(seen.principal.arn, seen.region) for seen in asked.calls] == [
        (f"arn:aws:iam::{ACCOUNT}:root", "eu-west-1")
    ]


async def test_without_keys_no_signature_is_taken_elsewhere(node: FakeNode, asked: Remembering) -> None:
    async with Client(Listening(node, TOKEN, resources=[asked], loopback=False)) as client:
        code, _ = await refused(boto(client, "ANY"), "get_alias", FunctionName="hello", Name="a")
        assert code == "MissingAuthenticationTokenException"
        with_token = {"Authorization": f"Bearer {TOKEN}"}
        assert (await client.get("/2015-03-31/functions", headers=with_token)).status == 200
    assert len(asked.calls) == 1


# --- what he may ------------------------------------------------------------------------------------------------------


async def test_an_identity_may_what_its_policy_says(keyed: Client, asked: Remembering) -> None:
    reader = boto(keyed, "READER")
    await call(reader, "get_alias", FunctionName="hello", Name="a")
    assert await refused(reader, "invoke", FunctionName="hello") == (
        "AccessDeniedException",
        f"User: arn:aws:iam::{ACCOUNT}:user/reader is not authorized to perform: lambda:InvokeFunction on resource: "
        f"{HELLO} because no identity-based policy allows the lambda:InvokeFunction action",
    )
    code, said = await refused(reader, "get_alias", FunctionName="thumbnail", Name="a")
    assert code == "AccessDeniedException"
    assert "on resource: arn:aws:lambda:us-east-1:000000000000:function:thumbnail because no" in said
    code, said = await refused(reader, "list_functions")
    assert "lambda:ListFunctions on resource: * because no identity-based" in said
    code, said = await refused(boto(keyed, "NONE"), "get_alias", FunctionName="hello", Name="a")
    assert code == "AccessDeniedException"
    assert [seen.operation for seen in asked.calls] == ["GetAlias"]


async def test_an_explicit_deny_wins(keyed: Client, asked: Remembering) -> None:
    everybody = boto(keyed, "ALL")
    await call(everybody, "delete_function", FunctionName="hello")
    _, said = await refused(everybody, "invoke", FunctionName="hello", Qualifier="live")
    assert said.endswith(f"on resource: {HELLO}:live with an explicit deny in an identity-based policy")
    assert [seen.operation for seen in asked.calls] == ["DeleteFunction"]


async def test_a_functions_policy_lets_others_in(keyed: Client, asked: Remembering) -> None:
    owner, other, none = boto(keyed, "ROOT"), boto(keyed, "OTHER"), boto(keyed, "NONE")
    _, said = await refused(other, "invoke", FunctionName=HELLO)
    assert said.endswith("because no resource-based policy allows the lambda:InvokeFunction action")
    given = {"FunctionName": "hello", "Action": "lambda:InvokeFunction"}
    await call(owner, "add_permission", StatementId="a", Principal="111111111111", **given)
    await call(other, "invoke", FunctionName=HELLO)
    _, said = await refused(other, "invoke", FunctionName=f"{HELLO}:live")  # which has a policy of its own
    assert "no resource-based policy allows" in said
    _, said = await refused(other, "delete_function", FunctionName=HELLO)
    assert "no resource-based policy allows the lambda:DeleteFunction action" in said
    await refused(none, "invoke", FunctionName="hello")
    await call(owner, "add_permission", StatementId="b", Principal=f"arn:aws:iam::{ACCOUNT}:user/none", **given)
    await call(none, "invoke", FunctionName="hello")
    await call(owner, "remove_permission", FunctionName="hello", StatementId="a")
    await refused(other, "invoke", FunctionName=HELLO)
    assert [seen.principal.account for seen in asked.calls] == ["111111111111", ACCOUNT]


# --- functions as callers ---------------------------------------------------------------------------------------------


async def test_a_function_may_invoke_others_and_change_nothing(
    keyed: Client, asked: Remembering, node: FakeNode
) -> None:
    principal = f"arn:aws:sts::{ACCOUNT}:assumed-role/weak/hello"
    given = node.sessions.mint(principal, ACCOUNT, SystemClock().now_ms() / 1000 + 600)
    session = boto(keyed, given.access_key_id, given.secret_access_key, given.session_token)
    await call(session, "invoke", FunctionName="thumbnail")
    assert asked.calls[0].principal.arn == principal
    _, said = await refused(session, "delete_function", FunctionName="thumbnail")
    assert said.startswith(f"User: {principal} is not authorized to perform: lambda:DeleteFunction")


async def test_a_key_of_its_role_says_what_a_function_may(keyed: Client, asked: Remembering, node: FakeNode) -> None:
    principal = f"arn:aws:sts::{ACCOUNT}:assumed-role/strong/hello"
    given = node.sessions.mint(principal, ACCOUNT, SystemClock().now_ms() / 1000 + 600)
    session = boto(keyed, given.access_key_id, given.secret_access_key, given.session_token)
    await call(session, "delete_function", FunctionName="thumbnail")
    assert len(asked.calls) == 1


async def test_credentials_of_functions_end_and_cannot_be_made_up(
    keyed: Client, asked: Remembering, node: FakeNode
) -> None:
    principal = f"arn:aws:sts::{ACCOUNT}:assumed-role/weak/hello"
    old = node.sessions.mint(principal, ACCOUNT, SystemClock().now_ms() / 1000 - 1)
    right = node.sessions.mint(principal, ACCOUNT, SystemClock().now_ms() / 1000 + 600)
    for access_key_id, secret, token, expected in (
        (old.access_key_id, old.secret_access_key, old.session_token, "ExpiredTokenException"),
        (right.access_key_id, SECRET, right.session_token, "InvalidSignatureException"),
        (right.access_key_id, right.secret_access_key, "bWFkZSB1cA==", "UnrecognizedClientException"),
        ("ROOT", SECRET, right.session_token, "UnrecognizedClientException"),
    ):
        code, _ = await refused(boto(keyed, access_key_id, secret, token), "invoke", FunctionName="hello")
        assert code == expected
    assert asked.calls == []
