"""Against a real server on this machine: fast, slow, dead, redirecting, talkative."""

from __future__ import annotations

import asyncio
import base64
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from eventfn.config import load
from eventfn.destination import WRITTEN, OutgoingRecord, Rejected, RetryAfter
from eventfn.errors import ConfigError
from eventfn.plugins import Plugins
from eventfn.testing import DestinationSuite, FakeClock, destination_context
from eventfn.units import Duration
from eventfn_webhook import LoopbackWebhookDestination, WebhookDestination
from eventfn_webhook.destination import WebhookSettings
from eventfn_webhook.signature import key_of, signed_headers

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Receiver:
    """A webhook's receiver: keeps every request, answers what the test says."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.connections: set[Any] = set()
        self.answer: Answer | None = None
        self.port = 0
        self.stopping = asyncio.Event()  # what an answer that never comes waits for
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        self.stopping.clear()
        app = web.Application(client_max_size=8 * 1024 * 1024)
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self.stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((dict(request.headers), await request.read()))
        self.connections.add(request.transport)
        return await self.answer(request) if self.answer else web.Response(text="thanks")


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


class TestLoopbackWebhookDestination(DestinationSuite):
    destination = LoopbackWebhookDestination
    scheme = "http"
    has_sample = False  # the sample shows https
    nonsense = (
        "",
        "127.0.0.1/hook",
        "//",
        "//:80/",
        "//127.0.0.1:port/",
        "//127.0.0.1:99999/",
        "//me:secret@127.0.0.1/",
        "//127.0.0.1/#part",
        "//127.0.0.1/two words",
        "//example.com/hook",
        "//10.0.0.1/hook",
        "//localhost.example.com/hook",
    )

    @pytest.fixture(autouse=True)
    def _receiver(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.target = f"//127.0.0.1:{receiver.port}/hook?a=b"

    async def received(self) -> list[Any]:
        return [msgspec.json.decode(body) for _, body in self.receiver.requests]

    async def refuse(self) -> None:
        await self.receiver.stop()

    async def accept(self) -> None:
        await self.receiver.start()


def record(number: int = 1) -> OutgoingRecord:
    return OutgoingRecord(id=f"r-{number}", payload=msgspec.json.encode({"number": number}))


@pytest_asyncio.fixture
async def open_destination(
    receiver: Receiver, tmp_path: Path
) -> AsyncIterator[Callable[..., Awaitable[LoopbackWebhookDestination]]]:
    opened: list[LoopbackWebhookDestination] = []

    async def open_destination(
        path: str = "/hook", port: int | None = None, **settings: Any
    ) -> LoopbackWebhookDestination:
        destination = LoopbackWebhookDestination(
            f"//127.0.0.1:{port or receiver.port}/hook",
            WebhookSettings(**settings),
            destination_context(tmp_path, clock=FakeClock(1_700_000_000_000)),
        )
        await destination.connect()
        opened.append(destination)
        return destination

    yield open_destination
    for destination in opened:
        await destination.close(1)


Open = Callable[..., Awaitable[LoopbackWebhookDestination]]


def answering(status: int, body: str = "", **headers: str) -> Answer:
    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=body, headers=headers)

    return answer


async def test_what_the_receiver_gets(receiver: Receiver, open_destination: Open) -> None:
    destination = await open_destination(secret=SECRET)
    assert await destination.write([record()]) == [WRITTEN]
    ((headers, body),) = receiver.requests
    assert body == record().payload
    assert headers["Content-Type"] == "application/json"
    expected = signed_headers("r-1", 1_700_000_000, body, key_of(SECRET))
    assert {name: headers[name] for name in expected} == expected


async def test_a_host_may_have_its_own_secret(receiver: Receiver, open_destination: Open) -> None:
    destination = await open_destination(secret=SECRET, secrets={"127.0.0.1": OTHER_SECRET})
    await destination.write([record()])
    ((headers, body),) = receiver.requests
    assert (
        headers["webhook-signature"]
        == (signed_headers("r-1", 1_700_000_000, body, key_of(OTHER_SECRET))["webhook-signature"])
    )


async def test_connections_are_kept(receiver: Receiver, open_destination: Open) -> None:
    destination = await open_destination()
    await destination.write([record(number) for number in range(5)])
    await destination.write([record(9)])
    assert len(receiver.connections) == 1


async def test_a_redirect_is_not_followed(receiver: Receiver, open_destination: Open) -> None:
    receiver.answer = answering(302, Location="/elsewhere")
    (answer,) = await (await open_destination()).write([record()])
    assert answer == Rejected("answered 302 to /elsewhere: redirects are not followed, write that URL")
    assert len(receiver.requests) == 1


async def test_a_receiver_that_is_gone_for_good_gets_nothing_more(receiver: Receiver, open_destination: Open) -> None:
    receiver.answer = answering(410, "this endpoint was deleted")
    (answer,) = await (await open_destination()).write([record()])
    assert answer == Rejected("answered 410: this endpoint was deleted")


async def test_a_receiver_that_asks_for_a_pause_gets_it(receiver: Receiver, open_destination: Open) -> None:
    receiver.answer = answering(429, "busy", **{"Retry-After": "30"})
    answers = await (await open_destination()).write([record(number) for number in range(10)])
    assert answers == [RetryAfter("answered 429: busy", after=30)] * 10
    assert len(receiver.requests) == 3, "it is not asked ten times"


async def test_one_record_that_it_chokes_on_holds_up_no_other(receiver: Receiver, open_destination: Open) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        number = msgspec.json.decode(await request.read())["number"]
        return web.Response(status=500 if number == 0 else 200)

    receiver.answer = answer
    answers = await (await open_destination()).write([record(number) for number in range(5)])
    assert answers == [RetryAfter("answered 500"), *[WRITTEN] * 4]


async def test_a_slow_receiver_is_given_up(receiver: Receiver, open_destination: Open) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        await receiver.stopping.wait()
        return web.Response()

    receiver.answer = answer
    destination = await open_destination(timeout=Duration(0.05))
    (answered,) = await destination.write([record()])
    assert answered == RetryAfter(f"http://127.0.0.1:{receiver.port}/hook did not answer within 0.05 s")


async def test_a_dead_receiver_is_named(open_destination: Open) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        (answer,) = await (await open_destination(port=port)).write([record()])
    assert isinstance(answer, RetryAfter)
    assert answer.reason.startswith(f"http://127.0.0.1:{port}/hook cannot be reached: ")


async def test_a_receiver_that_hangs_up_is_tried_again_later(receiver: Receiver, open_destination: Open) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    receiver.answer = answer
    (answered,) = await (await open_destination()).write([record()])
    assert isinstance(answered, RetryAfter)
    assert "cannot be reached" in answered.reason


@pytest.mark.parametrize("status", [200, 400])
async def test_an_endless_body_is_not_read(status: int, receiver: Receiver, open_destination: Open) -> None:
    sent = 0
    ended = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(status=status)
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65536)
                sent += 65536
        except ConnectionError:
            ended.set()
        return response

    receiver.answer = answer
    (answered,) = await (await open_destination()).write([record()])
    assert answered == (WRITTEN if status == 200 else Rejected(f"answered 400: {'x' * 512}"))
    await asyncio.wait_for(ended.wait(), 60)


async def test_a_body_that_never_ends_its_first_byte_is_no_reason_to_doubt_the_status(
    receiver: Receiver, open_destination: Open
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=404)
        await response.prepare(request)
        await response.write(b"no such")
        await receiver.stopping.wait()
        return response

    receiver.answer = answer
    (answered,) = await (await open_destination(timeout=Duration(0.1))).write([record()])
    assert answered == Rejected("answered 404: no such")


async def test_several_at_once_when_it_is_asked_for(receiver: Receiver, open_destination: Open) -> None:
    together = asyncio.Barrier(4)

    async def answer(request: web.Request) -> web.StreamResponse:
        await together.wait()  # nobody is answered before four are there
        return web.Response()

    receiver.answer = answer
    destination = await open_destination(maximum_concurrency=4)
    assert await destination.write([record(number) for number in range(8)]) == [WRITTEN] * 8


async def test_a_write_can_be_cancelled(receiver: Receiver, open_destination: Open) -> None:
    here = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        here.set()
        await receiver.stopping.wait()
        return web.Response()

    receiver.answer = answer
    destination = await open_destination()
    writing = asyncio.ensure_future(destination.write([record()]))
    await here.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    receiver.answer = None
    assert await destination.write([record()]) == [WRITTEN]


@pytest.mark.parametrize(
    ("target", "fine"),
    [
        ("//example.com/hook", True),
        ("//example.com:8443", True),
        ("//[2001:db8::1]/hook", True),
        ("//example.com/a%20b?c=d", True),
        ("example.com", False),
        ("//me@example.com", False),
        ("//[::1", False),
        ("///path", False),
    ],
)
def test_targets_of_https(target: str, fine: bool) -> None:
    assert (WebhookDestination.check(target, WebhookSettings()) is None) is fine


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "[::1]"])
def test_http_is_for_this_machine(host: str) -> None:
    assert LoopbackWebhookDestination.check(f"//{host}:8000/hook", WebhookSettings()) is None


def test_a_bad_secret_is_found_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "hello.py").write_text("def handler(event, context): ...\n")
    (tmp_path / "eventfn.toml").write_text(
        '[functions.hello]\nhandler = "hello.handler"\non_success = "https://example.com/x"\n'
        '[destinations.https.secrets]\n"example.com" = "hunter2"\n'
    )
    with pytest.raises(ConfigError, match=r"example\.com: expected a secret such as whsec_") as refused:
        load(tmp_path, Plugins(destinations={"https": WebhookDestination}))
    assert "hunter2" not in str(refused.value)


class TestSampleOfHttps:
    """The one part of the suite that needs no server: https itself is tried below, with a certificate."""

    destination = WebhookDestination
    scheme = "https"
    has_sample = True
    variables: ClassVar = {"WEBHOOK_SECRET": SECRET, "EXAMPLE_SECRET": OTHER_SECRET}
    test_its_sample_loads = DestinationSuite.test_its_sample_loads
    test_the_host_takes_it = DestinationSuite.test_the_host_takes_it


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *name]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


POST = """
import asyncio, sys
from pathlib import Path
from eventfn.destination import OutgoingRecord
from eventfn.testing import destination_context
from eventfn_webhook import WebhookDestination
from eventfn_webhook.destination import WebhookSettings

async def main():
    destination = WebhookDestination(sys.argv[1], WebhookSettings(), destination_context(Path(".")))
    await destination.connect()
    print(await destination.write([OutgoingRecord(id="1", payload=b"{}")]))
    await destination.close(1)

asyncio.run(main())
"""


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
@pytest.mark.parametrize("trusted", [True, False])
async def test_a_certificate_is_always_verified(
    trusted: bool, certificate: tuple[Path, Path], receiver: Receiver, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    app = web.Application()
    app.router.add_post("/hook", answering(200))
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        # Which authorities are trusted is settled when a process starts: so this one is started with ours, or not.
        posting = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            POST,
            f"//localhost:{runner.addresses[0][1]}/hook",
            env={"SSL_CERT_FILE": str(certificate[0])} if trusted else {},
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await posting.communicate()
    finally:
        await runner.cleanup()
    assert ("Written()" in out.decode()) is trusted
    assert ("certificate verify failed" in out.decode()) is not trusted
