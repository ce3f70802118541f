"""Function URLs at the listener: hosts, who is admitted, CORS, answers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from eventfn.errors import ShuttingDown
from eventfn.event import Outcome, OutcomeKind
from eventfn.trigger import Cors, Forbidden, FunctionUrl, UrlCaller, UrlRequest
from eventfn_http import HttpSettings

ID, REGION = "abc123", "eu-west-1"
HOST = f"{ID}.lambda-url.{REGION}.localhost"
GET = f"GET /any?a=b HTTP/1.1\r\nHost: {HOST}:8080\r\n\r\n".encode()

StartNode = Callable[..., Awaitable[Any]]


def anybody(request: UrlRequest) -> None:
    return None


@pytest.fixture
async def node(start: StartNode) -> Any:
    return await start([HttpSettings(path="/any")])


@pytest.fixture
async def client(node: Any) -> Any:
    return await node.client()


def mount(node: Any, admit: Callable[[UrlRequest], UrlCaller | None] = anybody, **more: Any) -> None:
    node.trigger.mount_urls([FunctionUrl(ID, REGION, Whole(node.caller), admit, **more)])


class Whole:
    """The function, whose events come in one piece."""

    def __init__(self, caller: Any) -> None:
        self._caller = caller
        self.function, self.function_arn = caller.function, caller.function_arn

    def invoke(self, payload: bytes, request_id: str, done: Any, apart: object = None, stream: Any = None) -> None:
        assert apart is None
        if self._caller.refusal is not None:
            raise self._caller.refusal
        if stream is not None:
            self._caller.invoke(payload, request_id, done, None, stream)
            return
        self._caller.events.append(json.loads(payload))
        done(self._caller.outcome)

    def submit(self, payload: bytes, request_id: str, dedupe_key: str | None = None) -> Awaitable[str]:
        raise AssertionError("somebody waits for the answer")


async def test_a_host_of_a_url_is_answered_by_its_function_whatever_routes_say(node: Any, client: Any) -> None:
    mount(node)
    node.caller.outcome = Outcome(OutcomeKind.SUCCESS, b'"by the URL"')
    for _ in range(2):  # the second one is known by its head
        assert (await client.ask(GET)).body == b"by the URL"
    assert (await client.ask(GET.replace(HOST.encode(), HOST.upper().encode()))).body == b"by the URL"
    event = node.caller.events[-2]
    assert (event["routeKey"], event["requestContext"]["apiId"]) == ("$default", ID)
    node.caller.outcome = Outcome(OutcomeKind.SUCCESS, b'"by the route"')
    assert (await client.ask(GET.replace(HOST.encode(), b"localhost"))).body == b"by the route"


@pytest.mark.parametrize("host", [HOST.replace(ID, "other"), HOST.replace(REGION, "us-east-1")])
async def test_another_host_of_the_kind_is_refused(node: Any, client: Any, host: str) -> None:
    mount(node)
    answer = await client.ask(GET.replace(HOST.encode(), host.encode()))
    assert (answer.status, answer.body) == (403, b'{"Message":null}')
    assert answer.headers["x-amzn-errortype"] == "AccessDeniedException"
    assert not node.caller.events


async def test_whoever_admits_sees_the_request_as_it_came(node: Any, client: Any) -> None:
    seen: list[UrlRequest] = []
    mount(node, lambda request: seen.append(request))
    await client.ask(
        f"POST /a%20b?x=%2F HTTP/1.1\r\nHost: {HOST}\r\nCookie: a=1; b=2\r\nX-A: 1\r\nX-A: 2\r\n"
        "Content-Length: 3\r\n\r\nabc".encode()
    )
    (request,) = seen
    assert (request.method, request.path, request.query, request.body) == ("POST", "/a%20b", "x=%2F", b"abc")
    assert dict(request.headers) == {"host": HOST, "x-a": "1,2", "content-length": "3", "cookie": "a=1; b=2"}
    assert request.source_ip == "127.0.0.1"


async def test_whoever_is_known_stands_in_the_event(node: Any, client: Any) -> None:
    mount(node, lambda request: UrlCaller("AKIA", "111111111111", "AIDA", "arn:aws:iam::111111111111:user/u"))
    await client.ask(GET)
    context = node.caller.events[0]["requestContext"]
    assert context["accountId"] == "111111111111"
    assert context["authorizer"]["iam"]["userArn"] == "arn:aws:iam::111111111111:user/u"


@pytest.mark.parametrize(("message", "told"), [(None, "Forbidden. For troubleshooting"), ("Too late", "Too late")])
async def test_whoever_is_not_admitted_is_told(node: Any, client: Any, message: str | None, told: str) -> None:
    def refuse(request: UrlRequest) -> None:
        raise Forbidden(message)

    mount(node, refuse)
    answer = await client.ask(GET)
    assert answer.status == 403
    assert json.loads(answer.body)["Message"].startswith(told)
    assert not node.caller.events


async def test_a_function_that_cannot_be_invoked_is_503(node: Any, client: Any) -> None:
    mount(node)
    node.caller.refusal = ShuttingDown("the node is stopping")
    assert (await client.ask(GET)).status == 503


async def test_urls_come_and_go_while_it_serves(node: Any, client: Any) -> None:
    assert (await client.ask(GET)).status == 403
    mount(node)
    assert (await client.ask(GET)).status == 200
    node.trigger.mount_urls([])
    assert (await client.ask(GET)).status == 403


# --- CORS -------------------------------------------------------------------------------------------------------------


def told(answer: Any) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


def asked(origin: str, method: str = "GET", more: str = "") -> bytes:
    return f"{method} / HTTP/1.1\r\nHost: {HOST}\r\nOrigin: {origin}\r\n{more}\r\n".encode()


PREFLIGHT = "Access-Control-Request-Method: PUT\r\n"


@pytest.mark.parametrize(
    ("cors", "origin", "expected"),
    [
        (Cors(allow_origins=("*",)), "https://a", {"access-control-allow-origin": "*"}),
        (Cors(allow_origins=("https://a",)), "https://a", {"access-control-allow-origin": "https://a"}),
        (Cors(allow_origins=("https://a",)), "https://b", {}),
        (Cors(), "https://a", {}),
        (
            Cors(allow_origins=("*",), allow_credentials=True),
            "https://a",
            {"access-control-allow-origin": "https://a", "access-control-allow-credentials": "true"},
        ),
    ],
)
async def test_origins(node: Any, client: Any, cors: Cors, origin: str, expected: dict[str, str]) -> None:
    mount(node, cors=cors)
    assert told(await client.ask(asked(origin))) == expected
    assert len(node.caller.events) == 1
    answer = await client.ask(asked(origin, "OPTIONS", PREFLIGHT))
    assert (answer.status, told(answer)) == (200, expected)
    assert len(node.caller.events) == 1, "the function is not asked"


async def test_a_preflight_says_what_may_be_sent(node: Any, client: Any) -> None:
    mount(node, cors=Cors(allow_origins=("*",), allow_methods=("PUT", "GET"), allow_headers=("a", "b"), max_age=9))
    assert told(await client.ask(asked("https://a", "OPTIONS", PREFLIGHT))) == {
        "access-control-allow-origin": "*",
        "access-control-allow-methods": "PUT,GET",
        "access-control-allow-headers": "a,b",
        "access-control-max-age": "9",
    }


async def test_options_reach_the_function_where_nothing_is_configured_or_nothing_is_asked(
    node: Any, client: Any
) -> None:
    mount(node)
    await client.ask(asked("https://a", "OPTIONS", PREFLIGHT))
    mount(node, cors=Cors(allow_origins=("*",)))
    await client.ask(asked("https://a", "OPTIONS"))
    assert [event["requestContext"]["http"]["method"] for event in node.caller.events] == ["OPTIONS", "OPTIONS"]


async def test_the_functions_own_words_do_not_count(node: Any, client: Any) -> None:
    mount(node, cors=Cors(allow_origins=("https://a",), expose_headers=("x",)))
    headers = {"Access-Control-Allow-Origin": "*", "access-control-expose-headers": "y", "X-Own": "kept"}
    node.caller.outcome = Outcome(OutcomeKind.SUCCESS, json.dumps({"statusCode": 200, "headers": headers}).encode())
    answer = await client.ask(asked("https://a"))
    assert told(answer) == {"access-control-allow-origin": "https://a", "access-control-expose-headers": "x"}
    assert (answer.headers["x-own"], answer.headers["vary"]) == ("kept", "Origin")


async def test_a_stream_has_them_too(node: Any, client: Any) -> None:
    mount(node, cors=Cors(allow_origins=("https://a",)), streams=True)
    node.caller.later = True
    await client.send(asked("https://a"))
    await node.caller.called()
    (function,) = node.caller.streamed
    function.begin()
    head = await client.head()
    assert told(head) == {"access-control-allow-origin": "https://a"}
    function.end()
    assert await client.chunk() == b""
