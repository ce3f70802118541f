"""The physical limit of the design: httptools, a socketpair to each of two forked workers, json in the worker.

No admission, no logs, no function model, no limits: an HTTP request in, its body through a worker, an answer out.
With a number as argument so many workers, of which each has a path of its own, /0 and so on below any other.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import socket
import struct
import sys
from collections import deque
from typing import cast

import httptools
import uvloop

TWO = 2


class Team:
    """Workers any of which will do, and requests for which none is free."""

    def __init__(self) -> None:
        self.free: list[Worker] = []
        self.waiting: deque[tuple[Front, bytes]] = deque()


def work(channel: socket.socket) -> None:
    stream = channel.makefile("rwb")
    while header := stream.read(4):
        event = json.loads(stream.read(struct.unpack("!I", header)[0]))
        answer = json.dumps(event).encode()
        stream.write(struct.pack("!I", len(answer)) + answer)
        stream.flush()


class Worker(asyncio.Protocol):
    def __init__(self, team: Team) -> None:
        self._team = team
        self._buffer = b""
        self._front: Front | None = None
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is not a subclass

    def send(self, front: Front, body: bytes) -> None:
        self._front = front
        self._transport.writelines([struct.pack("!I", len(body)), body])

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) < 4:
            return
        end = 4 + struct.unpack_from("!I", self._buffer)[0]
        if len(self._buffer) < end:
            return
        answer, self._buffer = self._buffer[4:end], self._buffer[end:]
        assert self._front is not None
        self._front.answer(answer)
        if self._team.waiting:
            self.send(*self._team.waiting.popleft())
        else:
            self._team.free.append(self)


class Front(asyncio.Protocol):
    def __init__(self, teams: list[Team]) -> None:
        self._teams = teams
        self._team = teams[0]
        self._parser = httptools.HttpRequestParser(self)
        self._body: list[bytes] = []
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is not a subclass

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        if len(self._teams) > 1:
            self._team = self._teams[int(url.rpartition(b"/")[2])]

    def on_body(self, data: bytes) -> None:
        self._body.append(data)

    def on_message_complete(self) -> None:
        body, self._body = b"".join(self._body), []
        if self._team.free:
            self._team.free.pop().send(self, body)
        else:
            self._team.waiting.append((self, body))

    def answer(self, body: bytes) -> None:
        if self._transport.is_closing():
            return
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self._transport.writelines([head, body])


async def main(channels: list[socket.socket], teams: list[Team]) -> None:
    loop = asyncio.get_running_loop()
    for number, channel in enumerate(channels):
        team = teams[number % len(teams)]
        _, worker = await loop.create_connection(functools.partial(Worker, team), sock=channel)
        team.free.append(worker)
    server = await loop.create_server(lambda: Front(teams), "127.0.0.1", 0)
    print(f"listening {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


paths = int(sys.argv[1]) if len(sys.argv) > 1 else 1
channels: list[socket.socket] = []
for _ in range(paths if paths > 1 else TWO):
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        for channel in [*channels, ours]:
            channel.close()
        with contextlib.suppress(ConnectionResetError):  # the front was ended in the middle of a request
            work(theirs)
        os._exit(0)
    theirs.close()
    channels.append(ours)
uvloop.run(main(channels, [Team() for _ in range(paths)]))
