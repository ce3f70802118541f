"""The proxy does to a connection what the fault tests think it does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from eventfn.testing import eventually
from tests.servers.proxy import Proxy


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """In front of a server that sends back what it gets."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1000):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with Proxy("127.0.0.1", server.sockets[0].getsockname()[1]) as proxy:
        yield proxy
    server.close()
    await server.wait_closed()


@contextlib.asynccontextmanager
async def connected(proxy: Proxy) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_it_forwards_both_ways_until_one_side_has_no_more(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.write_eof()
        assert await reader.read() == b""
    await eventually(lambda: not proxy.links)


async def test_a_cut_is_a_reset_and_the_next_connection_is_good(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        writer.write(b"hello")
        await reader.readexactly(5)
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.read()
    async with connected(proxy) as (reader, writer):
        writer.write(b"again")
        assert await reader.readexactly(5) == b"again"


async def test_refused_is_refused_until_it_accepts_on_the_same_port(proxy: Proxy) -> None:
    port = proxy.port
    async with connected(proxy) as (reader, writer):
        writer.write(b"hello")
        await reader.readexactly(5)
        await proxy.refuse()
        with pytest.raises(ConnectionResetError):
            await reader.read()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(proxy.host, port)
    await proxy.accept()
    assert proxy.port == port
    async with connected(proxy) as (reader, writer):
        writer.write(b"again")
        assert await reader.readexactly(5) == b"again"


async def test_what_was_stalled_arrives_when_it_flows(proxy: Proxy) -> None:
    proxy.stall()
    async with connected(proxy) as (reader, writer):
        writer.write(b"hello")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(5), 0.05)
        proxy.flow()
        assert await reader.readexactly(5) == b"hello"


async def test_a_delay_holds_up_and_keeps_the_order(proxy: Proxy) -> None:
    proxy.delay = 0.05
    loop = asyncio.get_running_loop()
    async with connected(proxy) as (reader, writer):
        began = loop.time()
        writer.write(b"hel")
        writer.write(b"lo")
        assert await reader.readexactly(5) == b"hello"
        assert loop.time() - began >= 0.1


async def test_a_truncated_answer_ends_in_the_middle(proxy: Proxy) -> None:
    proxy.on_connect = lambda link: link.truncate("down", 3)
    async with connected(proxy) as (reader, writer):
        writer.write(b"hello")
        assert await reader.read(100) == b"hel"
        assert await reader.read(100) == b""


async def test_dropped_bytes_never_arrive(proxy: Proxy) -> None:
    async with connected(proxy) as (reader, writer):
        writer.write(b"hello")
        await reader.readexactly(5)
        proxy.drop("up", 2)
        writer.write(b"world")
        assert await reader.readexactly(3) == b"rld"


async def test_nobody_behind_it_is_a_reset(proxy: Proxy) -> None:
    async with Proxy("127.0.0.1", 1) as empty, connected(empty) as (reader, _):
        with pytest.raises(ConnectionResetError):
            await reader.read()
