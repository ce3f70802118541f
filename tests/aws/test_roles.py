"""Credentials of functions, with a server's STS and without one."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import AsyncGenerator, Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from eventfn.aws.clients import Clients
from eventfn.aws.roles import OWN_SECONDS, ROLE_SECONDS, RoleNotAssumable, Roles
from eventfn.aws.sessions import Sessions
from eventfn.clock import SystemClock
from eventfn.errors import ConnectorError
from eventfn.functions.model import Aws
from eventfn.testing import FakeClock
from tests.servers.aws import Servers
from tests.servers.process import free_port

ROLE = "arn:aws:iam::000000000000:role/service/worker"


async def test_without_sts_the_node_gives_its_own() -> None:
    clock, sessions, aws = FakeClock(), Sessions(), Aws(endpoint="http://127.0.0.1:1")
    roles = Roles(aws, sessions, Clients(aws), clock)
    given = await roles.credentials(ROLE, "thumbnail")
    session = sessions.recognise(given.access_key_id, given.session_token)
    assert session is not None
    assert session.principal == "arn:aws:sts::000000000000:assumed-role/worker/thumbnail"
    assert session.expires == given.expires == clock.now_ms() / 1000 + OWN_SECONDS
    without = await roles.credentials(None, "thumbnail")
    session = sessions.recognise(without.access_key_id, without.session_token)
    assert session is not None
    assert session.principal == "arn:aws:sts::000000000000:assumed-role/thumbnail/thumbnail"


@pytest.mark.parametrize("server", ["moto", "ministack"])
async def test_a_role_is_assumed_and_kept(servers: Servers, server: str) -> None:
    aws = Aws(endpoints={"sts": servers.get(server).url})
    clients, clock = Clients(aws), SystemClock()
    try:
        sessions = Sessions()
        roles = Roles(aws, sessions, clients, clock)
        first, second = await asyncio.gather(roles.credentials(ROLE, "f"), roles.credentials(ROLE, "f"))
        assert first == second == await roles.credentials(ROLE, "f")
        assert first.access_key_id.startswith("ASIA")
        session = sessions.recognise(first.access_key_id, first.session_token)
        assert session is not None, "whoever signs with them is known"
        assert session.principal == "arn:aws:sts::000000000000:assumed-role/worker/f"
        assert session.secret_access_key == first.secret_access_key
        assert sessions.recognise("ASIAANOTHER", first.session_token) is None
        assert ROLE_SECONDS - 60 < first.expires - clock.now_ms() / 1000 < ROLE_SECONDS + 60
        assert await roles.credentials(ROLE, "another") != first
    finally:
        await clients.close()


async def test_credentials_last_for_half_their_time_at_least() -> None:
    clock = FakeClock()
    async with sts(_assumed(clock)) as aws:
        clients = Clients(aws)
        roles = Roles(aws, Sessions(), clients, clock)
        first = await roles.credentials(ROLE, "f")
        await clock.advance(ROLE_SECONDS / 2 - 1)
        assert await roles.credentials(ROLE, "f") == first
        await clock.advance(1)
        assert (await roles.credentials(ROLE, "f")).expires == first.expires + ROLE_SECONDS / 2
        await clients.close()


async def test_a_role_that_sts_refuses() -> None:
    async def refuse(request: web.Request) -> web.Response:
        text = (
            "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized</Message></Error></ErrorResponse>"
        )
        return web.Response(status=403, text=text, content_type="text/xml")

    async with sts(refuse) as aws:
        clients = Clients(aws)
        with pytest.raises(RoleNotAssumable) as refused:
            await Roles(aws, Sessions(), clients, SystemClock()).credentials(ROLE, "f")
        await clients.close()
    assert str(refused.value) == "The role defined for the function cannot be assumed by Lambda."
    assert refused.value.why == "AccessDenied: not authorized"


async def test_sts_that_is_not_there() -> None:
    aws = Aws(endpoints={"sts": f"http://127.0.0.1:{free_port()}"})
    clients = Clients(aws)
    with pytest.raises(ConnectorError, match=r"sts assume_role: http://127\.0\.0\.1:"):
        await Roles(aws, Sessions(), clients, SystemClock()).credentials(ROLE, "f")
    await clients.close()


Answer = Callable[[web.Request], Awaitable[web.Response]]


@contextlib.asynccontextmanager
async def sts(answer: Answer) -> AsyncGenerator[Aws]:
    app = web.Application()
    app.router.add_post("/", answer)
    async with TestServer(app) as server:
        yield Aws(endpoints={"sts": str(server.make_url("/"))})


def _assumed(clock: FakeClock) -> Answer:
    async def answer(request: web.Request) -> web.Response:
        asked = await request.post()
        assert (asked["Action"], asked["RoleArn"], asked["RoleSessionName"]) == ("AssumeRole", ROLE, "f_")
        expires = datetime.datetime.fromtimestamp(clock.now_ms() / 1000 + ROLE_SECONDS, datetime.UTC)
        given = (
            "<AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>"
            f"<Expiration>{expires.isoformat()}</Expiration>"
        )
        result = f"<AssumeRoleResult><Credentials>{given}</Credentials></AssumeRoleResult>"
        return web.Response(text=f"<AssumeRoleResponse>{result}</AssumeRoleResponse>", content_type="text/xml")

    return answer
