"""The endpoint: what it takes, what it refuses, and what it tells SNS, with a server that signs as SNS does.

moto signs too, but its server cannot be asked for the certificate; MiniStack asks for confirmation, does not sign, and
knows the topic of a confirmation in its own region only.
"""

from __future__ import annotations

import base64
import contextlib
import io
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from eventfn.clock import SystemClock
from eventfn.errors import ConnectorError, EngineFull, PayloadTooLarge, ShuttingDown, Throttled
from eventfn.event import Apart, Outcome
from eventfn.plugins import Plugins
from eventfn.testing import lint
from eventfn.trigger import ListenContext, Mounted
from eventfn_aws.sns import SnsTrigger
from eventfn_aws.sns.messages import Envelope, trusted
from eventfn_aws.sns.trigger import SnsSettings, SnsShared
from tests.servers import aws
from tests.servers.aws import Servers
from tests.support import until

TOPIC = "arn:aws:sns:eu-west-1:123456789012:alerts"
SUBSCRIPTION = f"{TOPIC}:2bcfbf39-05c3-41de-beaa-fcfcc21c8f55"


class Caller:
    """A function whose durable queue is a list."""

    def __init__(self, function: str = "alert") -> None:
        self.function = function
        self.function_arn = f"arn:aws:lambda:us-east-1:000000000000:function:{function}"
        self.events: dict[str, Any] = {}  # by dedupe key
        self.refusal: Exception | None = None

    def invoke(
        self, payload: bytes, request_id: str, done: Any, apart: Apart | None = None, stream: object = None
    ) -> None:
        raise AssertionError(f"nobody waits for an answer: {Outcome}")

    def submit(self, payload: bytes, request_id: str, dedupe_key: str | None = None) -> Awaitable[str]:
        return self._submit(payload, request_id, dedupe_key or request_id)

    async def _submit(self, payload: bytes, request_id: str, dedupe_key: str) -> str:
        if self.refusal is not None:
            raise self.refusal
        self.events.setdefault(dedupe_key, msgspec.json.decode(payload))
        return request_id


class Sns:
    """Stands for SNS: has a certificate, signs, and notes who confirms."""

    def __init__(self, valid_for: timedelta = timedelta(days=1)) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
        now = datetime.now(UTC)
        self.pem = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2))
            .not_valid_after(now + valid_for)
            .sign(self.key, SHA256())
            .public_bytes(Encoding.PEM)
        )
        self.asked: list[str] = []
        self.down = False
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[Sns]:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        if self.down:
            return web.Response(status=500)
        return web.Response(body=self.pem if request.path.endswith(".pem") else b"<ConfirmSubscriptionResponse/>")

    def message(self, version: str = "2", **changed: Any) -> dict[str, Any]:
        message = {
            "Type": "Notification",
            "MessageId": str(uuid.uuid4()),
            "TopicArn": TOPIC,
            "Subject": "fire",
            "Message": "a text\nof two lines, Zoë",
            "Timestamp": "2026-01-01T00:00:00.000Z",
            "SignatureVersion": version,
            "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem",
            "UnsubscribeURL": f"https://sns.eu-west-1.amazonaws.com/?Action=Unsubscribe&SubscriptionArn={SUBSCRIPTION}",
        } | changed
        message = {key: value for key, value in message.items() if value is not None}
        text = Envelope.read(msgspec.json.encode(message)).signed_text()
        signature = self.key.sign(text, padding.PKCS1v15(), SHA256() if version == "2" else SHA1())
        return {"Signature": base64.b64encode(signature).decode()} | message

    def confirmation(self, **changed: Any) -> dict[str, Any]:
        return self.message(
            **{
                "Type": "SubscriptionConfirmation",
                "Subject": None,
                "UnsubscribeURL": None,
                "Token": "t",
                "SubscribeURL": "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=t",
            }
            | changed
        )


class Opened:
    """A listener on a free port, with one trigger."""

    def __init__(self, trigger: SnsTrigger, caller: Caller, url: str, http: aiohttp.ClientSession) -> None:
        self.trigger = trigger
        self.caller = caller
        self.url = url
        self._http = http

    async def post(self, message: Any, path: str = "/alerts", **headers: str) -> int:
        return (await self.answer(message, path, **headers)).status

    async def answer(self, message: Any, path: str = "/alerts", **headers: str) -> aiohttp.ClientResponse:
        body = message if isinstance(message, bytes) else msgspec.json.encode(message)
        async with self._http.post(self.url + path, data=io.BytesIO(body), headers=headers) as answer:
            await answer.read()
            return answer


def context(folder: Path) -> ListenContext:
    return ListenContext(str(folder), "eu-west-1", "123456789012", SystemClock(), logging.getLogger("eventfn.sns"))


@contextlib.asynccontextmanager
async def opened(folder: Path, shared: SnsShared, *settings: SnsSettings) -> AsyncGenerator[Opened]:
    caller = Caller()
    trigger = SnsTrigger(shared, context(folder))
    declared = settings or (SnsSettings(topic=TOPIC, path="/alerts"),)
    trigger.mount([Mounted(each, caller, f"alert/sns/{at}") for at, each in enumerate(declared)])
    address = await trigger.open()
    async with aiohttp.ClientSession() as http:
        try:
            yield Opened(trigger, caller, f"http://{address}", http)
        finally:
            await trigger.drain(5)
            await trigger.close()


@pytest_asyncio.fixture
async def sns() -> AsyncIterator[Sns]:
    async with Sns().running() as running:
        yield running


@pytest_asyncio.fixture
async def endpoint(sns: Sns, tmp_path: Path) -> AsyncIterator[Opened]:
    async with opened(tmp_path, SnsShared(listen="127.0.0.1:0", endpoint_url=sns.url)) as running:
        yield running


# --- what it takes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("subject", ["fire", None])
async def test_a_message_becomes_lambdas_event(sns: Sns, endpoint: Opened, version: str, subject: str | None) -> None:
    attributes = {"city": {"Type": "String", "Value": "Wien"}}
    message = sns.message(version, Subject=subject, MessageAttributes=attributes)
    assert await endpoint.post(message) == 200
    (event,) = endpoint.caller.events.values()
    (record,) = event["Records"]
    assert list(record.items())[:3] == [
        ("EventSource", "aws:sns"),
        ("EventVersion", "1.0"),
        ("EventSubscriptionArn", SUBSCRIPTION),
    ]
    assert list(record["Sns"].items()) == [
        ("Type", "Notification"),
        ("MessageId", message["MessageId"]),
        ("TopicArn", TOPIC),
        ("Subject", subject),
        ("Message", message["Message"]),
        ("Timestamp", message["Timestamp"]),
        ("SignatureVersion", version),
        ("Signature", message["Signature"]),
        ("SigningCertUrl", message["SigningCertURL"]),
        ("UnsubscribeUrl", message["UnsubscribeURL"]),
        ("MessageAttributes", attributes),
    ]


async def test_the_subscription_is_what_the_header_says(sns: Sns, endpoint: Opened) -> None:
    other = f"{TOPIC}:other"
    assert await endpoint.post(sns.message(), **{"x-amz-sns-subscription-arn": other}) == 200
    (event,) = endpoint.caller.events.values()
    assert event["Records"][0]["EventSubscriptionArn"] == other


async def test_what_sns_sends_again_is_one_event(sns: Sns, endpoint: Opened) -> None:
    message = sns.message()
    assert [await endpoint.post(message) for _ in range(2)] == [200, 200]
    assert len(endpoint.caller.events) == 1


async def test_the_certificate_is_fetched_once(sns: Sns, endpoint: Opened) -> None:
    for _ in range(3):
        assert await endpoint.post(sns.message()) == 200
    assert sns.asked == ["/SimpleNotificationService-0.pem"]


async def test_every_function_of_a_topic_gets_it_once(sns: Sns, tmp_path: Path) -> None:
    async with opened(tmp_path, SnsShared(listen="127.0.0.1:0", endpoint_url=sns.url)) as endpoint:
        settings, other = SnsSettings(topic=TOPIC, path="/alerts"), Caller("other")
        callers = [endpoint.caller, other, other]
        endpoint.trigger.mount([Mounted(settings, caller, f"{at}") for at, caller in enumerate(callers)])
        assert await endpoint.post(sns.message()) == 200
        assert (len(endpoint.caller.events), len(other.events)) == (1, 1)


async def test_a_subscription_is_confirmed(sns: Sns, endpoint: Opened) -> None:
    assert await endpoint.post(sns.confirmation()) == 200
    assert sns.asked[-1] == "/?Action=ConfirmSubscription&Token=t"
    assert not endpoint.caller.events


async def test_an_end_of_a_subscription_is_told_in_the_log(
    sns: Sns, endpoint: Opened, caplog: pytest.LogCaptureFixture
) -> None:
    assert await endpoint.post(sns.confirmation(Type="UnsubscribeConfirmation")) == 200
    assert "was ended by somebody" in caplog.text
    assert sns.asked == ["/SimpleNotificationService-0.pem"], "it must not subscribe again"


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"Message": "another"},
        {"Subject": "another"},
        {"Timestamp": "2026-01-01T00:00:00.001Z"},
        {"MessageId": "another"},
        {"Signature": "AAAA"},
        {"Signature": "no base64!"},
        {"Signature": ""},
        {"SignatureVersion": "1"},
        {"SignatureVersion": "3"},
        {"SigningCertURL": "https://sns.eu-west-1.amazonaws.com.example.com/SimpleNotificationService-0.pem"},
        {"SigningCertURL": "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0.pem"},
        {"SigningCertURL": "https://sns.eu-west-1.amazonaws.com/topic"},
        {"SigningCertURL": ""},
    ],
)
async def test_what_is_not_signed_by_sns_is_refused(sns: Sns, endpoint: Opened, changed: dict[str, str]) -> None:
    assert await endpoint.post(sns.message() | changed) == 403
    assert not endpoint.caller.events


async def test_a_confirmation_leads_nowhere_else(sns: Sns, endpoint: Opened) -> None:
    assert await endpoint.post(sns.confirmation(SubscribeURL="https://example.com/?Action=ConfirmSubscription")) == 403
    assert await endpoint.post(sns.confirmation() | {"Token": "another"}) == 403
    assert sns.asked == ["/SimpleNotificationService-0.pem"]


async def test_a_certificate_out_of_its_time_is_refused(tmp_path: Path) -> None:
    async with (
        Sns(valid_for=-timedelta(days=1)).running() as sns,
        opened(tmp_path, SnsShared(listen="127.0.0.1:0", endpoint_url=sns.url)) as endpoint,
    ):
        assert await endpoint.post(sns.message()) == 403


async def test_what_is_for_nobody_is_refused_unseen(sns: Sns, endpoint: Opened) -> None:
    assert await endpoint.post(sns.message(), path="/other") == 404
    assert await endpoint.post(sns.message(TopicArn=f"{TOPIC}-other")) == 404
    assert await endpoint.post(b"{}") == 400
    assert await endpoint.post(b"\xff") == 400
    assert await endpoint.post(b"raw", **{"x-amz-sns-rawdelivery": "true"}) == 400
    assert await endpoint.post(b"x" * (3 * 1024 * 1024)) == 413
    assert sns.asked == []


# --- what it tells SNS ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (Throttled("too many", 7), 429),
        (EngineFull("no space left"), 503),
        (ShuttingDown("the node is stopping"), 503),
        (PayloadTooLarge(2, 1), 413),
    ],
)
async def test_what_is_not_on_disk_is_not_taken(sns: Sns, endpoint: Opened, refusal: Exception, status: int) -> None:
    endpoint.caller.refusal = refusal
    message = sns.message()
    answer = await endpoint.answer(message)
    assert answer.status == status
    assert answer.headers.get("Retry-After") == ("7" if status == 429 else None)
    endpoint.caller.refusal = None
    assert await endpoint.post(message) == 200
    assert len(endpoint.caller.events) == 1


async def test_while_sns_cannot_be_asked_it_is_to_come_again(sns: Sns, endpoint: Opened) -> None:
    sns.down = True
    assert await endpoint.post(sns.message()) == 503
    assert await endpoint.post(sns.confirmation()) == 503
    sns.down = False
    assert await endpoint.post(sns.message()) == 200
    assert await endpoint.post(sns.confirmation()) == 200


async def test_a_node_that_stops_takes_nothing_more(sns: Sns, endpoint: Opened) -> None:
    await endpoint.trigger.drain(5)
    assert await endpoint.post(sns.message()) == 503
    assert not endpoint.caller.events


async def test_an_address_in_use_is_told(sns: Sns, endpoint: Opened, tmp_path: Path) -> None:
    taken = SnsTrigger(SnsShared(listen=endpoint.url.removeprefix("http://")), context(tmp_path))
    with pytest.raises(ConnectorError, match=r"sns: cannot listen on .*: Address already in use"):
        await taken.open()
    await taken.close()


# --- real servers -----------------------------------------------------------------------------------------------------


async def test_what_moto_posts_is_taken(servers: Servers, tmp_path: Path) -> None:
    server = servers.get("moto")
    async with aws.client("sns", server.url) as client:
        topic = (await client.call("create_topic", Name=f"alerts-{uuid.uuid4().hex[:8]}"))["TopicArn"]
        known = msgspec.structs.asdict(aws.settings(server.url))
        shared = SnsShared(listen="127.0.0.1:0", verify_signature=False, **known)
        async with opened(tmp_path, shared, SnsSettings(topic=topic, path="/alerts")) as endpoint:
            await client.call("subscribe", TopicArn=topic, Protocol="http", Endpoint=f"{endpoint.url}/alerts")
            await client.call("publish", TopicArn=topic, Message="hello")
            await until(lambda: endpoint.caller.events, "moto has posted")
            (event,) = endpoint.caller.events.values()
            assert event["Records"][0]["Sns"]["Message"] == "hello"


async def test_it_subscribes_to_ministack_and_confirms(servers: Servers, tmp_path: Path) -> None:
    server = servers.get("ministack")
    async with aws.client("sns", server.url, "us-east-1") as client:
        topic = (await client.call("create_topic", Name=f"alerts-{uuid.uuid4().hex[:8]}"))["TopicArn"]
        known = msgspec.structs.asdict(aws.settings(server.url))
        async with opened(tmp_path, SnsShared(listen="127.0.0.1:0", verify_signature=False, **known)) as first:
            address = first.url  # a port that is free, and known before
        shared = SnsShared(listen=address.removeprefix("http://"), public_url=address, verify_signature=False, **known)
        async with opened(tmp_path, shared, SnsSettings(topic=topic, path="/alerts", subscribe=True)) as endpoint:

            async def confirmed() -> bool:
                said = await client.call("get_topic_attributes", TopicArn=topic)
                return bool(said["Attributes"]["SubscriptionsConfirmed"] == "1")

            await until(confirmed, "the subscription is confirmed")
            await client.call("publish", TopicArn=topic, Message="hello", Subject="greeting")
            await until(lambda: endpoint.caller.events, "MiniStack has posted")
            (event,) = endpoint.caller.events.values()
            assert event["Records"][0]["Sns"]["Subject"] == "greeting"


async def test_it_subscribes_once_sns_is_there(servers: Servers, tmp_path: Path) -> None:
    server = servers.get("ministack")
    async with aws.client("sns", server.url) as client:
        name = f"alerts-{uuid.uuid4().hex[:8]}"
        topic = f"arn:aws:sns:eu-west-1:000000000000:{name}"
        known = msgspec.structs.asdict(aws.settings(server.url))
        shared = SnsShared(listen="127.0.0.1:0", public_url="http://127.0.0.1:9", verify_signature=False, **known)
        async with opened(tmp_path, shared, SnsSettings(topic=topic, subscribe=True)):
            await client.call("create_topic", Name=name)

            async def subscribed() -> bool:
                said = await client.call("list_subscriptions_by_topic", TopicArn=topic)
                return bool([each["Endpoint"] for each in said["Subscriptions"]] == ["http://127.0.0.1:9/"])

            await until(subscribed, "the subscription is there")


# --- what it says about itself ----------------------------------------------------------------------------------------


def test_the_host_takes_it() -> None:
    assert Plugins.installed().trigger("sns") is SnsTrigger


def test_its_sample_loads_and_its_readme_names_every_key() -> None:
    tables = lint.check_sample(SnsTrigger)
    (table,) = tables["functions"]["alert"]["triggers"]
    settings = lint.load_settings(SnsSettings, table, {}, ("type",))
    shared = lint.load_settings(SnsShared, tables["sns"], {})
    assert SnsTrigger(shared, context(Path())).check([settings]) == []
    lint.check_readme(SnsTrigger, SnsSettings)
    lint.check_readme(SnsTrigger, SnsShared)


def test_subscribing_needs_an_address_that_sns_can_reach() -> None:
    settings = [SnsSettings(topic=TOPIC), SnsSettings(topic=TOPIC, subscribe=True)]
    ((index, key, message),) = SnsTrigger(SnsShared(), context(Path())).check(settings)
    assert (index, key) == (1, "subscribe")
    assert "public_url" in message


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"topic": "alerts"}, "topic"),
        ({"topic": "arn:aws:sqs:eu-west-1:123456789012:alerts"}, "topic"),
        ({"topic": TOPIC, "path": "alerts"}, "path"),
        ({"topic": TOPIC, "path": "/a b"}, "path"),
    ],
)
def test_nonsense_is_refused(wrong: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=f"^{key}: "):
        SnsSettings(**wrong)


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"listen": "example.com:80"}, "listen"),
        ({"listen": "127.0.0.1"}, "listen"),
        ({"public_url": "events.example.com"}, "public_url"),
        ({"verify_signature": False}, "verify_signature"),
        ({"verify_signature": False, "endpoint_url": "http://x", "listen": "0.0.0.0:1"}, "verify_signature"),
        ({"endpoint_url": "x"}, "endpoint_url"),
        ({"access_key_id": "x"}, "secret_access_key"),
    ],
)
def test_shared_nonsense_is_refused(wrong: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=f"^{key}: "):
        SnsShared(**wrong)


@pytest.mark.parametrize(
    ("url", "endpoint_url", "place"),
    [
        ("https://sns.eu-west-1.amazonaws.com/a.pem", None, "https://sns.eu-west-1.amazonaws.com/a.pem"),
        ("https://sns.cn-north-1.amazonaws.com.cn/a.pem", None, "https://sns.cn-north-1.amazonaws.com.cn/a.pem"),
        ("https://sns.eu-west-1.amazonaws.com:8443/a.pem", None, None),
        ("https://user@sns.eu-west-1.amazonaws.com/a.pem", None, None),
        ("https://sns.eu-west-1.amazonaws.com@example.com/a.pem", None, None),
        ("https://sns.amazonaws.com.example.com/a.pem", None, None),
        ("https://my-bucket.amazonaws.com/a.pem", None, None),
        ("http://127.0.0.1:4566/?Action=x", None, None),
        ("http://localhost:4566/?Action=x", "http://127.0.0.1:4566", "http://127.0.0.1:4566/?Action=x"),
        ("http://localhost:4567/?Action=x", "http://127.0.0.1:4566", None),
        ("https://sns.eu-west-1.amazonaws.com/a.pem", "http://moto:5000", "http://moto:5000/a.pem"),
        ("http://[", None, None),
    ],
)
def test_nothing_but_sns_is_asked(url: str, endpoint_url: str | None, place: str | None) -> None:
    assert trusted(url, endpoint_url) == place
