"""Redis streams, bare: how fast is a durable queue whose function does nothing, and which promises less?

    redis_streams.py APPENDFSYNC submit COUNT     32 producers, each waiting for its XADD, and one consumer beside them
    redis_streams.py APPENDFSYNC work COUNT SIZE  two consumers of a stream that is full

Starts a redis-server of its own in a temporary folder, and prints {"version", "accepted", "settled"} in messages a
second. A consumer reads batches with XREADGROUP and settles each with one XACK: no retry, no dead letters, no lease.
The client knows the shape of each reply and parses nothing else: it is the least that a client can be.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from typing import cast

import uvloop

BODY = b'{"text":"' + b"x" * 89 + b'"}'  # 100 bytes, as in engine.py
PRODUCERS = 32
CONSUMERS = 2
SUBMIT_SIZE = 100  # what the consumer beside producers asks for
PIPELINE = 500  # messages that are put there at once, where that is not what is measured

_LINE = b"\r\n"
_ID = re.compile(rb"\$\d+\r\n(\d+-\d+)\r\n")
_VERSION = re.compile(r"v=(\S+)")
_HEAD = 5  # lines of a reply of XREADGROUP before its entries: *1 *2 $6 events *COUNT
_ENTRY = 8  # lines of an entry: *2 $LENGTH id *2 $4 body $LENGTH BODY


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)


XADD = command(b"XADD", b"events", b"*", b"body", BODY)


def xreadgroup(size: int, *waiting: bytes) -> bytes:
    group = (b"XREADGROUP", b"GROUP", b"group", b"consumer", b"COUNT", b"%d" % size)
    return command(*group, *waiting, b"STREAMS", b"events", b">")


class Client(asyncio.Protocol):
    """One connection, with one request under way."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is not a subclass
        self._loop = asyncio.get_running_loop()
        self._buffer = b""
        self._lines: int | None = 0  # of the reply that is awaited; None: its head says how many
        self._reply: asyncio.Future[bytes]

    async def call(self, request: bytes, lines: int | None) -> bytes:
        self._lines = lines
        self._reply = self._loop.create_future()
        self._transport.write(request)
        return await self._reply

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._buffer.startswith(b"-"):
            raise RuntimeError(self._buffer.decode())
        lines = self._lines
        if lines is None and self._buffer.count(_LINE) >= _HEAD:
            lines = _HEAD + _ENTRY * int(self._buffer.split(_LINE, _HEAD)[_HEAD - 1][1:])
        if self._buffer == b"*-1\r\n" or (lines is not None and self._buffer.count(_LINE) == lines):
            reply, self._buffer = self._buffer, b""
            self._reply.set_result(reply)

    async def consume(self, read: bytes, count: int) -> None:
        """Settles `count` messages, or all that are there."""
        settled = 0
        while settled < count and (found := _ID.findall(await self.call(read, None))):
            await self.call(command(b"XACK", b"events", b"group", *found), 1)
            settled += len(found)

    def close(self) -> None:
        self._transport.close()


@contextlib.asynccontextmanager
async def clients(appendfsync: str, number: int) -> AsyncIterator[list[Client]]:
    with tempfile.TemporaryDirectory(prefix="eventfn-bench-") as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        settings = {"port": port, "bind": "127.0.0.1", "dir": folder, "appendonly": "yes", "appendfsync": appendfsync}
        argv = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        server = subprocess.Popen(["redis-server", *argv, "--save", ""], stdout=subprocess.DEVNULL)
        try:
            loop = asyncio.get_running_loop()
            made: list[Client] = []
            while len(made) < number:
                with contextlib.suppress(OSError):  # it is starting
                    made.append((await loop.create_connection(Client, "127.0.0.1", port))[1])
            await made[0].call(command(b"XGROUP", b"CREATE", b"events", b"group", b"0", b"MKSTREAM"), 1)
            yield made
            for client in made:
                client.close()
        finally:
            server.terminate()
            server.wait()


async def submit(appendfsync: str, count: int) -> tuple[float, float]:
    async with clients(appendfsync, PRODUCERS + 1) as (consumer, *producers):
        left = count

        async def produce(client: Client) -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await client.call(XADD, 2)

        began = time.perf_counter()
        consuming = asyncio.create_task(consumer.consume(xreadgroup(SUBMIT_SIZE, b"BLOCK", b"0"), count))
        await asyncio.gather(*map(produce, producers))
        accepted = time.perf_counter()
        await consuming
        return count / (accepted - began), count / (time.perf_counter() - began)


async def work(appendfsync: str, count: int, size: int) -> tuple[float, float]:
    async with clients(appendfsync, CONSUMERS) as consumers:
        began = time.perf_counter()
        for begin in range(0, count, PIPELINE):
            some = min(PIPELINE, count - begin)
            await consumers[0].call(XADD * some, 2 * some)
        filled = time.perf_counter()
        await asyncio.gather(*(client.consume(xreadgroup(size), count) for client in consumers))
        return count / (filled - began), count / (time.perf_counter() - filled)


async def main(appendfsync: str, question: str, *numbers: str) -> None:
    version = _VERSION.search(subprocess.check_output(["redis-server", "--version"], text=True))
    measure = submit if question == "submit" else work
    accepted, settled = await measure(appendfsync, *map(int, numbers))
    print(json.dumps({"version": version[1] if version else "?", "accepted": accepted, "settled": settled}))


uvloop.run(main(*sys.argv[1:]))
