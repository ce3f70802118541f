"""Lambda's Invoke, as its contract has it."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from eventfn.errors import EngineError, EngineFull, PayloadTooLarge, Refused, ShuttingDown, Throttled
from eventfn.event import MAX_ASYNC_REQUEST, MAX_SYNC_REQUEST, MAX_SYNC_RESPONSE, Outcome, OutcomeKind
from tests.api.fake_node import FakeNode

Client = TestClient[Any, Any]
PATH = "/2015-03-31/functions/hello/invocations"
EVENT = {"X-Amz-Invocation-Type": "Event"}


async def test_an_answer_is_relayed_unchanged(client: Client, node: FakeNode) -> None:
    answer = await client.post(PATH, data=b'{"a": 1}', headers={"X-Amzn-Trace-Id": "Root=1"})
    assert (answer.status, await answer.read()) == (200, b'{"message": "hi"}')
    assert answer.headers["X-Amz-Executed-Version"] == "$LATEST"
    assert answer.headers["x-amzn-Remapped-Content-Length"] == "0"
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Amzn-Trace-Id"] == "Root=1"
    assert answer.headers["X-Eventfn-Duration-Ms"] == "1.50"
    assert "X-Amz-Function-Error" not in answer.headers
    assert "X-Amz-Log-Result" not in answer.headers
    assert node.calls == [
        {
            "name": "hello",
            "payload": b'{"a": 1}',
            "request_id": answer.headers["x-amzn-RequestId"],
            "log_tail": False,
            "client_context": None,
            "trace_id": "Root=1",
        }
    ]


async def test_the_largest_answer_is_relayed(client: Client, node: FakeNode) -> None:
    node.outcome = Outcome(OutcomeKind.SUCCESS, b"1" * MAX_SYNC_RESPONSE)
    assert await (await client.post(PATH)).read() == node.outcome.payload


async def test_a_function_error_is_a_200_that_says_so(client: Client, node: FakeNode) -> None:
    node.outcome = Outcome(OutcomeKind.FUNCTION_ERROR, b'{"errorType": "ValueError"}', log_tail=b"x" * 5000 + b"end")
    answer = await client.post(PATH, headers={"X-Amz-Log-Type": "Tail"})
    assert (answer.status, answer.headers["X-Amz-Function-Error"]) == (200, "Unhandled")
    assert await answer.read() == b'{"errorType": "ValueError"}'
    tail = base64.b64decode(answer.headers["X-Amz-Log-Result"])
    assert len(tail) == 4096
    assert tail.endswith(b"end")
    assert node.calls[0]["log_tail"] is True


@pytest.mark.parametrize("body", [b'"text"', b"1.5", b"null", b"[1, 2]", b" {} ", '"é"'.encode()])
async def test_any_json_value_is_an_event(client: Client, node: FakeNode, body: bytes) -> None:
    assert (await client.post(PATH, data=body)).status == 200
    assert node.calls[0]["payload"] == body


async def test_no_body_is_an_empty_object(client: Client, node: FakeNode) -> None:
    assert (await client.post(PATH)).status == 200
    assert node.calls[0]["payload"] == b"{}"


@pytest.mark.parametrize("body", [b"{", b"hello", b'{"a": 1}x', b'"\xff"', b"\xef\xbb\xbf{}"])
@pytest.mark.parametrize("headers", [{}, EVENT])
async def test_a_body_that_is_not_json_is_refused(
    client: Client, node: FakeNode, body: bytes, headers: dict[str, str]
) -> None:
    answer = await client.post(PATH, data=body, headers=headers)
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (400, "InvalidRequestContentException")
    told = await answer.json()
    assert told["Type"] == "User"
    start = "Could not parse request body into json: Could not parse payload into json: "
    assert told["message"].startswith(start)
    assert node.calls == []


async def test_an_event_is_accepted_with_its_id_and_nothing_else(client: Client, node: FakeNode) -> None:
    answer = await client.post(PATH, data=b"{}", headers=EVENT)
    assert (answer.status, await answer.read()) == (202, b"")
    assert "X-Amz-Executed-Version" not in answer.headers
    assert node.calls[0]["request_id"] == answer.headers["x-amzn-RequestId"]


async def test_an_event_seen_before_has_the_id_of_the_first(client: Client, node: FakeNode) -> None:
    answer = await client.post(PATH, data=b"{}", headers={**EVENT, "Idempotency-Key": "seen"})
    assert (answer.status, answer.headers["x-amzn-RequestId"]) == (202, "earlier")


async def test_a_dry_run_runs_nothing(client: Client, node: FakeNode) -> None:
    answer = await client.post(PATH, headers={"X-Amz-Invocation-Type": "DryRun"})
    assert (answer.status, await answer.read(), node.calls) == (204, b"", [])


async def test_an_unknown_invocation_type_is_refused(client: Client, node: FakeNode) -> None:
    answer = await client.post(PATH, headers={"X-Amz-Invocation-Type": "Later"})
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (400, "ValidationException")
    assert await answer.json() == {
        "message": "1 validation error detected: Value 'Later' at 'invocationType' failed to satisfy constraint: "
        "Member must satisfy enum value set: [Event, RequestResponse, DryRun]"
    }
    assert node.calls == []


@pytest.mark.parametrize("kind", ["RequestResponse", "Event", "DryRun"])
async def test_an_unknown_function_is_not_found_and_the_nearest_is_named(client: Client, kind: str) -> None:
    answer = await client.post(PATH.replace("hello", "helo"), headers={"X-Amz-Invocation-Type": kind})
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (404, "ResourceNotFoundException")
    arn = "arn:aws:lambda:us-east-1:000000000000:function:helo:$LATEST"
    assert await answer.json() == {"Type": "User", "Message": f"Function not found: {arn} (did you mean 'hello'?)"}


@pytest.mark.parametrize(
    ("name", "query", "status"),
    [
        ("hello:%24LATEST", "", 200),
        ("hello", "?Qualifier=$LATEST", 200),
        ("arn:aws:lambda:us-east-1:000000000000:function:hello", "", 200),
        ("000000000000:function:hello", "", 200),
        ("function:hello:%24LATEST", "", 200),
        ("hello", "?Qualifier=prod", 404),
        ("hello:7", "", 404),
        ("hello:7", "?Qualifier=8", 400),
        ("hello:7:8:9:10", "", 400),
        ("no%20name", "", 400),
    ],
)
async def test_a_function_has_lambdas_names(client: Client, name: str, query: str, status: int) -> None:
    from yarl import URL

    url = URL(f"/2015-03-31/functions/{name}/invocations{query}", encoded=True)
    assert (await client.post(url)).status == status


@pytest.mark.parametrize(("headers", "limit"), [({}, MAX_SYNC_REQUEST), (EVENT, MAX_ASYNC_REQUEST)])
async def test_a_body_at_its_limit_passes_and_one_byte_more_does_not(
    client: Client, node: FakeNode, headers: dict[str, str], limit: int
) -> None:
    at_limit = b'"' + b"x" * (limit - 2) + b'"'
    assert (await client.post(PATH, data=io.BytesIO(at_limit), headers=headers)).status in (200, 202)
    node.calls.clear()
    answer = await client.post(PATH, data=io.BytesIO(at_limit[:-1] + b'x"'), headers=headers)
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (413, "RequestEntityTooLargeException")
    text = f"Request must be smaller than {limit} bytes for the InvokeFunction operation"
    assert await answer.json() == {"message": text}
    assert node.calls == []


async def test_the_client_context_reaches_the_function_decoded(client: Client, node: FakeNode) -> None:
    context = '{"custom": {"a": "b"}}'
    given = base64.b64encode(context.encode()).decode()
    assert (await client.post(PATH, headers={"X-Amz-Client-Context": given})).status == 200
    assert node.calls[0]["client_context"] == context


@pytest.mark.parametrize(
    "given", ["%%%", base64.b64encode(b"not json").decode(), base64.b64encode(b'"\xff"').decode(), "A" * 3584]
)
async def test_a_bad_client_context_is_refused(client: Client, node: FakeNode, given: str) -> None:
    answer = await client.post(PATH, headers={"X-Amz-Client-Context": given})
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (400, "InvalidRequestContentException")
    assert node.calls == []


async def test_no_capacity_is_429_with_lambdas_reason(client: Client, node: FakeNode) -> None:
    reason = "ReservedFunctionConcurrentInvocationLimitExceeded"
    node.outcome = Outcome(OutcomeKind.THROTTLED, b"", error_message=reason, retry_after=2)
    answer = await client.post(PATH)
    assert (answer.status, answer.headers["Retry-After"]) == (429, "2")
    assert answer.headers["x-amzn-ErrorType"] == "TooManyRequestsException"
    assert json.loads(await answer.read()) == {"Reason": reason, "Type": "User", "message": "Rate Exceeded."}


async def test_an_error_of_ours_is_a_500(client: Client, node: FakeNode) -> None:
    node.outcome = Outcome(OutcomeKind.SYSTEM_ERROR, b"", error_message="the environment could not be started")
    answer = await client.post(PATH)
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (500, "ServiceException")
    assert (await answer.json())["Message"] == "the environment could not be started"


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (Throttled("FunctionInvocationRateLimitExceeded", 5), 429, "TooManyRequestsException", "5"),
        (PayloadTooLarge(2, 1), 413, "RequestEntityTooLargeException", None),
        (ShuttingDown("the node is stopping"), 503, "ServiceException", "5"),
        (EngineFull("no space"), 503, "ServiceException", "5"),
        (EngineError("locked"), 503, "ServiceException", "5"),
        (Refused("no"), 400, "InvalidParameterValueException", None),
        (RuntimeError("secret detail"), 500, "ServiceException", None),
    ],
)
async def test_every_error_has_its_answer(
    client: Client, node: FakeNode, error: Exception, status: int, code: str, retry_after: str | None
) -> None:
    node.error = error
    answer = await client.post(PATH, headers=EVENT)
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (status, code)
    assert answer.headers.get("Retry-After") == retry_after
    assert "x-amzn-RequestId" in answer.headers
    assert "secret" not in await answer.text()


async def test_the_older_operation_accepts_events(client: Client, node: FakeNode) -> None:
    path = "/2014-11-13/functions/hello/invoke-async/"
    answer = await client.post(path, data=b'{"a": 1}')
    assert (answer.status, await answer.json()) == (202, {"Status": 202})
    assert node.calls[0]["payload"] == b'{"a": 1}'
    assert node.calls[0]["request_id"] == answer.headers["x-amzn-RequestId"]
    assert (await client.post(path, data=b"{")).headers["x-amzn-ErrorType"] == "InvalidRequestContentException"
    assert (await client.post(path.replace("hello", "nobody"))).status == 404


async def test_a_function_of_elsewhere_is_not_invoked(client: Client, node: FakeNode) -> None:
    region = "arn:aws:lambda:eu-west-1:000000000000:function:hello"
    answer = await client.post(PATH.replace("hello", region))
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (404, "ResourceNotFoundException")
    said = "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')"
    assert await answer.json() == {"Type": "User", "Message": said}
    account = "arn:aws:lambda:us-east-1:111111111111:function:hello"
    answer = await client.post(PATH.replace("hello", account))
    assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (403, "AccessDeniedException")
    assert await answer.json() == {"Message": None}
    assert node.calls == []
