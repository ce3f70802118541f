"""The listener's life: bound, served, closed."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import aiohttp
import pytest

from eventfn.api.inward import Inward
from eventfn.api.listener import AdminListener
from eventfn.errors import ConnectorError
from tests.api.fake_node import TOKEN, FakeNode


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0"])
async def test_it_answers_on_the_address_that_it_returns(node: FakeNode, listen: str) -> None:
    admin = AdminListener(node, listen, TOKEN, Inward())
    address = await admin.bind()
    await admin.serve()
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://{address}/healthz") as answer:
            assert answer.status == 200
    finally:
        await admin.close()
        await admin.close()
    with pytest.raises(OSError, match=r"refused|failed"):
        await asyncio.open_connection(*address.rsplit(":", 1))


async def test_who_asks_before_it_serves_is_answered_when_it_does(node: FakeNode) -> None:
    admin = AdminListener(node, "127.0.0.1:0", TOKEN, Inward())
    address = await admin.bind()
    try:
        reader, writer = await asyncio.open_connection(*address.rsplit(":", 1))
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        await writer.drain()
        await admin.serve()
        assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
        writer.close()
        await writer.wait_closed()
    finally:
        await admin.close()


async def test_closed_before_it_serves_it_leaves_nothing_behind(node: FakeNode) -> None:
    admin = AdminListener(node, "127.0.0.1:0", TOKEN, Inward())
    address = await admin.bind()
    await admin.close()
    again = AdminListener(node, address, TOKEN, Inward())
    assert await again.bind() == address
    await again.close()


@pytest.mark.parametrize("expect", [{}, {"Expect": "100-continue"}])
async def test_lambdas_api_is_answered_with_and_without_a_detour(node: FakeNode, expect: dict[str, str]) -> None:
    """Its requests go past the application, but for those that expect a 100 first."""
    admin = AdminListener(node, "127.0.0.1:0", TOKEN, Inward())
    address = await admin.bind()
    await admin.serve()
    try:
        async with aiohttp.ClientSession() as session:
            url = f"http://{address}/2015-03-31/functions/hello/invocations"
            headers = {"Authorization": f"Bearer {TOKEN}", **expect}
            async with session.post(url, data=b"{}", headers=headers) as answer:
                assert (answer.status, await answer.read()) == (200, node.outcome.payload)
                assert answer.headers["x-amzn-RequestId"] == node.calls[0]["request_id"]
            async with session.post(url, data=b"{}", headers=expect) as answer:
                assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (
                    403,
                    "MissingAuthenticationTokenException",
                )
            async with session.post(url, data=b"{", headers={**headers, "Host": "evil.example"}) as answer:
                assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (403, "AccessDeniedException")
        assert len(node.calls) == 1
    finally:
        await admin.close()


async def test_an_address_in_use_is_told_with_a_way_out(node: FakeNode) -> None:
    first = AdminListener(node, "127.0.0.1:0", TOKEN, Inward())
    address = await first.bind()
    second = AdminListener(node, address, TOKEN, Inward())
    try:
        with pytest.raises(ConnectorError, match=rf"cannot listen on {address}: .*--admin"):
            await second.bind()
    finally:
        await second.close()
        await first.close()


def test_listening_takes_no_aiohttp() -> None:
    code = "import eventfn.api.listener, sys; print('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "False\n", done.stderr
