"""Every operation gets what nobody should send: it is answered as Lambda answers, and what is refused changes nothing.

Inputs come from the service model: values that are right, at and beyond each constraint, of other types, huge, with any
Unicode, missing. The application and its resources are the real ones, on an engine in memory.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import functools
import string
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import quote

import msgspec
import pytest
from aiohttp import ClientSession
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from yarl import URL

from eventfn.api.errors import ApiError
from eventfn.api.service_model import Member, Operation, ServiceModel, Shape, service_model
from eventfn.api.validation import validate
from eventfn.durable.running import DurableExecutions
from eventfn.engine.memory import MemoryEngine
from eventfn.functions.managed import ManagedFunction
from eventfn.mapping.running import Mappings
from eventfn.plugins import Plugins
from eventfn.sources import Sources
from tests.api.fake_node import TOKEN, FakeNode
from tests.api.lab import ECHO
from tests.api.listening import Listening

MODEL = service_model()
CODES = {name for name, shape in MODEL.shapes.items() if shape.error is not None} | {
    "AccessDeniedException",
    "InvalidParameterValueException",
    "RequestEntityTooLargeException",
    "SerializationException",
    "UnknownOperationException",
    "ValidationException",
}
ACCOUNT = "000000000000"
ARN = f"arn:aws:lambda:us-east-1:{ACCOUNT}"

# What goes past the patterns, so that a handler sees it.
PLAUSIBLE = [
    "hello",
    "hello:$LATEST",
    "hello:1",
    "nothing",
    "made",
    "made",
    "made:$LATEST",
    "$LATEST",
    "1",
    "live",
    "ALL",
    f"{ARN}:function:hello",
    f"{ARN}:function:hello:live",
    "arn:aws:lambda:eu-west-1:000000000000:function:hello",
    "arn:aws:lambda:us-east-1:111111111111:function:hello",
    f"{ARN}:layer:l",
    f"{ARN}:layer:l:1",
    f"{ARN}:code-signing-config:csc-0123456789abcdef0",
    f"{ARN}:event-source-mapping:00000000-0000-0000-0000-000000000000",
    f"{ARN}:function:hello:1/durable-execution/a/b",
    f"arn:aws:iam::{ACCOUNT}:role/worker",
    f"arn:aws:sqs:us-east-1:{ACCOUNT}:queue",
    "python3.12",
    "app.handler",
    "lambda:InvokeFunction",
    "*",
    "s3.amazonaws.com",
    '{"Version":"2012-10-17","Statement":[]}',
    f"{ARN}:layer:l:1",
    f"{ARN}:capacity-provider:c",
    f"arn:aws:kms:us-east-1:{ACCOUNT}:key/k",
    f"arn:aws:kinesis:us-east-1:{ACCOUNT}:stream/s",
    f"arn:aws:dynamodb:us-east-1:{ACCOUNT}:table/t/stream/2026-01-01T00:00:00.000",
    f"arn:aws:lambda:us-east-1::runtime:{'0' * 64}",
    f"arn:aws:elasticfilesystem:us-east-1:{ACCOUNT}:access-point/fsap-0123456789abcdef0",
    "00000000-0000-0000-0000-000000000000",
    ACCOUNT,
    "o-0123456789abcdef",
    "sg-1",
    "subnet-1",
    "bucket",
    "/mnt/data",
    "/aws/lambda/hello",
    "localhost:9092",
    "KEY",
    "lambda:GetLayerVersion",
    "GET",
]
ZIP = base64.b64encode(ECHO).decode()
HOSTILE = ["", " ", "\x00", "../../etc/passwd", "%00", "é", "\U0001f600", "a" * 300, "{}", "[" * 300, "$", "ａ", "٣"]
ANYTHING: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([[], {}, [None], {"": None}, [[[]]], "x" * 70_000])
)


@functools.cache
def right_texts(kind: str) -> list[str]:
    """What the model takes for this shape, of what means something to a handler."""
    operation = Operation(name="x", method="x", path="x", status=200, input="x")
    asked = Shape(type="structure", members={"X": Member(shape=kind)})
    model = ServiceModel(operations={}, shapes={**MODEL.shapes, "x": asked})
    found: list[str] = []
    for text in [*PLAUSIBLE, *MODEL.shapes[kind].enum]:
        with contextlib.suppress(ApiError):
            validate(model, operation, {"X": text})
            found.append(text)
    return found


def text_of(kind: str, wild: bool) -> st.SearchStrategy[str]:
    shape = MODEL.shapes[kind]
    right = right_texts(kind)
    if not wild and right:
        return st.sampled_from(right)
    choices: list[st.SearchStrategy[str]] = [st.sampled_from(PLAUSIBLE), st.sampled_from(HOSTILE), st.text(max_size=20)]
    if right:
        choices += [st.sampled_from(right)] * 4
    if shape.max is not None and shape.max <= 10_000:
        choices.append(st.sampled_from(["a" * int(shape.max), "a" * (int(shape.max) + 1)]))
    if shape.min is not None:
        choices.append(st.just("a" * int(shape.min)))
    return st.one_of(choices)


def number_of(shape: Shape, wild: bool) -> st.SearchStrategy[float]:
    low, high = int(shape.min or 0), int(shape.max if shape.max is not None else 2**31 - 1)
    right = st.sampled_from([low, high]) | st.integers(low, max(low, high))
    return right | st.sampled_from([low - 1, high + 1, 0, -1, 2**31, 2**63]) if wild else right


def value_of(member: Member, wild: bool, depth: int = 0) -> st.SearchStrategy[Any]:
    """In JSON's types; `wild`: now and then of others."""
    shape = MODEL.shapes[member.shape]
    least, most = int(shape.min or 0), 3 if shape.max is None else min(3, int(shape.max))
    if wild:
        least, most = 0, 3
    match shape.type:
        case "structure":
            right: st.SearchStrategy[Any] = fields_of(shape, wild, depth + 1)
        case "list":
            assert shape.member is not None
            right = st.lists(value_of(shape.member, wild, depth + 1), min_size=least, max_size=max(least, most))
        case "map":
            assert shape.key is not None
            assert shape.value is not None
            keys, values = text_of(shape.key.shape, wild), value_of(shape.value, wild, depth + 1)
            right = st.dictionaries(keys, values, max_size=most)
        case "string":
            right = text_of(member.shape, wild)
        case "integer" | "long" | "double" | "timestamp":
            right = number_of(shape, wild)
        case "boolean":
            right = st.booleans()
        case "blob":
            right = st.binary(max_size=40).map(lambda raw: base64.b64encode(raw).decode()) | st.just(ZIP)
    return st.one_of([right] * 12 + [ANYTHING]) if wild else right


def fields_of(shape: Shape, wild: bool, depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    if depth > 4:
        return st.just({})
    inner = {name: value_of(member, wild, depth) for name, member in shape.members.items() if member.location is None}
    required = {name: inner[name] for name in shape.required if name in inner and not wild}
    optional = {name: strategy for name, strategy in inner.items() if name not in required}
    return st.fixed_dictionaries(required, optional=optional)


class Sent(msgspec.Struct, frozen=True):
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


LONGEST = 1100  # characters in a path or a query: aiohttp refuses request lines of more than 8190 bytes itself

HEADER_TEXT = st.text(string.printable.strip(), max_size=40) | st.sampled_from(["Tail", "Event", "e30=", "A" * 4000])


@st.composite
def request_of(draw: st.DrawFn, operation: Operation) -> Sent:
    shape, wild = MODEL.input_of(operation.name), draw(st.booleans())
    path, _, literal = operation.path.partition("?")
    query, headers = [literal] if literal else [], {"Authorization": f"Bearer {TOKEN}"}
    for name, member in shape.members.items():
        kind, key = MODEL.shapes[member.shape], member.location_name or name
        match member.location:
            case "uri":
                value = str(draw(plain(member.shape, wild)))[:LONGEST]
                path = path.replace(f"{{{key}}}", quote(value, safe=""))
            case "querystring" if draw(st.booleans()):
                inner = member.shape if kind.member is None else kind.member.shape
                value = str(draw(plain(inner, wild)))[:LONGEST]
                query.append(f"{key}={quote(value, safe='')}")
            case "header" if draw(st.booleans()):
                value = draw(HEADER_TEXT if wild else st.sampled_from(kind.enum or ("x",)))
                headers[key] = value.encode("latin-1", "replace").decode("latin-1").strip()
            case _:
                pass
    body = draw(body_of(shape, wild))
    return Sent(operation.method, path + ("?" + "&".join(query) if query else ""), headers, body)


def plain(kind: str, wild: bool) -> st.SearchStrategy[Any]:
    """Of a path or a query."""
    shape = MODEL.shapes[kind]
    return text_of(kind, wild) if shape.type == "string" else number_of(shape, wild)


def body_of(shape: Shape, wild: bool) -> st.SearchStrategy[bytes]:
    broken = st.sampled_from([b"{", b"\xff", b"null", b"[]", b'"x"', b'{"a":1}x', b'{"\\ud800": 1}', b"[" * 3_000])
    broken |= st.sampled_from([b'{"Tags":' * 2_000, b'{"Timeout": 1e999}', b'{"Timeout": NaN}'])
    raw = st.binary(max_size=30) | ANYTHING.map(_json)
    right = fields_of(shape, wild).map(_json) if shape.payload is None else raw
    return st.one_of([right] * 12 + [broken, st.just(b"")]) if wild else right


def _json(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (OverflowError, UnicodeEncodeError):
        return repr(value).encode("utf-8", "replace")  # which is no JSON


class NoSources:
    """Instead of sources.Sources: every queue and stream that a mapping is about is there."""

    def state(self, source: str) -> tuple[None, str]:
        return None, ""

    async def probe(self, bound: object) -> None:
        return None


def fuzzed_node() -> FakeNode:
    """With what keeps mappings and durable executions, beside functions and layers."""
    node, sources = FakeNode(), cast(Sources, NoSources())
    control = node.control
    plugins, clock = Plugins.installed(), control.clock
    node.mappings = Mappings(control.store, sources, node.registry, plugins, lambda: control.project, clock)
    node.durable = DurableExecutions(control.store, node.call, clock)
    return node


class Served:
    """One loop for all examples: an application that is up, and its state."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.node = fuzzed_node()
        self.loop.run_until_complete(self._open())

    async def _open(self) -> None:
        await self.node.control.engine.open(self.node.control.clock.now_ms())
        await self.node.control.store.load()
        self.server = Listening(self.node, TOKEN)
        await self.server.start_server()
        self.session = ClientSession()

    def close(self) -> None:
        self.loop.run_until_complete(self.session.close())
        self.loop.run_until_complete(self.server.close())
        self.loop.close()

    def send(self, sent: Sent) -> tuple[int, dict[str, str], bytes]:
        return self.loop.run_until_complete(self._send(sent))

    async def _send(self, sent: Sent) -> tuple[int, dict[str, str], bytes]:
        url = URL(str(self.server.make_url("/")).rstrip("/") + sent.target, encoded=True)
        async with self.session.request(sent.method, url, data=sent.body, headers=sent.headers) as answer:
            return answer.status, dict(answer.headers), await answer.read()

    def make(self) -> None:
        """The function `made`, active, if an example has not left it there."""
        role = f"arn:aws:iam::{ACCOUNT}:role/worker"
        asked = {"FunctionName": "made", "Role": role, "Handler": "app.handler", "Runtime": "python3.11"}
        body = msgspec.json.encode({**asked, "Code": {"ZipFile": ZIP}})
        status, _, told = self.send(Sent("POST", "/2015-03-31/functions", {"Authorization": f"Bearer {TOKEN}"}, body))
        assert status in (201, 409), told

        def activate(function: ManagedFunction) -> ManagedFunction:
            latest = msgspec.structs.replace(function.latest, state="Active", last_update_status="Successful")
            return msgspec.structs.replace(function, latest=latest)

        self.loop.run_until_complete(self.node.control.store.change("made", activate))

    def kept(self) -> Any:
        """All that the engine keeps."""
        engine = self.node.control.engine
        assert isinstance(engine, MemoryEngine)
        return self.loop.run_until_complete(engine.scan(""))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    found = Served()
    yield found
    found.close()


@pytest.mark.parametrize("name", MODEL.operations)
def test_whatever_is_sent_is_answered_as_lambda_does(served: Served, name: str) -> None:
    operation = MODEL.operations[name]
    served.make()

    @settings(
        max_examples=60,
        deadline=datetime.timedelta(seconds=20),
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(request_of(operation))
    def every(sent: Sent) -> None:
        before = served.kept()
        status, headers, body = served.send(sent)
        assert "x-amzn-RequestId" in headers
        if status < 300:
            assert status in (operation.status, 200, 202, 204)
            assert status != 204 or body == b""
            return
        code = headers["x-amzn-ErrorType"]
        assert code in CODES, (status, body)
        told = msgspec.json.decode(body, type=dict[str, Any])
        assert told.keys() & {"Message", "message"}, told
        assert 400 <= status < 500, (code, told)
        assert served.kept() == before

    every()
