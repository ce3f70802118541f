"""Relays against real network namespaces, real servers on loopback, and clients that mean no good."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from textwrap import dedent
from typing import Any, cast

import pytest
import pytest_asyncio

from eventfn.clock import SystemClock
from eventfn.sandbox import allow_list
from eventfn.sandbox.allow_list import Target
from eventfn.testing.clock import FakeClock
from eventfn.workers.conduit import reset
from eventfn.workers.names import Address, LookUp, Names
from eventfn.workers.relay import Relay
from tests.netns import WHO, Failed, Inside
from tests.support import until

from .conftest import descriptors

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Sandbox:
    """A process inside, a relay outside, and the lines that a function's log would have."""

    def __init__(self, inside: Inside, clock: FakeClock | SystemClock) -> None:
        self.inside = inside
        self.clock = clock
        self.log: list[str] = []
        self.names: Names
        self.relay: Relay

    def allow(self, *entries: str, look_up: LookUp | None = None, **limits: Any) -> None:
        self.names = Names(self.clock, look_up) if look_up else Names(self.clock)
        plan = allow_list.plan(entries)
        listeners = self.inside.sockets(
            "network.bring_up_loopback(); network.add_addresses(addresses); sent += network.listen(doors)",
            addresses=plan.addresses,
            doors=plan.listen,
        )
        self.relay = Relay(listeners, plan.targets, self.names, self.log.append, self.clock, **limits)

    async def run(self, code: str, **names: Any) -> Any:
        """Python inside, while the loop goes on."""
        return await asyncio.to_thread(self.inside.run, code, **names)

    async def talk(self, code: str, port: int, address: str = "127.0.0.1", **names: Any) -> Any:
        """The same, with a connected `client`."""
        connect = "client = socket.create_connection((address, port), 60)\n"
        return await self.run(connect + dedent(code), address=address, port=port, **names)

    def close(self) -> None:
        self.relay.close()
        self.names.close()
        self.inside.end()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest_asyncio.fixture(params=WHO)
async def sandbox(request: pytest.FixtureRequest, clock: FakeClock) -> AsyncIterator[Sandbox]:
    made = Sandbox(await asyncio.to_thread(Inside, request.param), clock)
    yield made
    made.close()


@contextlib.asynccontextmanager
async def serving(serve: Serve, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """A server on the machine's loopback: its port."""
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            handlers.discard(task)
            writer.close()

    server = await asyncio.start_server(handle, host, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(handlers):
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until the end of what is sent, and then its own end."""
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()


async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


HELLO = "client.sendall(b'hello'); answer = client.recv(99).decode(); client.close()"
RESET = "client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); client.close()"


# --- what it is for --------------------------------------------------------------------------------------------------


async def test_a_name_an_address_and_a_low_port_are_reached(sandbox: Sandbox) -> None:
    async with serving(echo) as port:
        sandbox.allow(f"localhost:{port}", f"127.0.0.9:{port}")
        assert await sandbox.talk(HELLO, port) == "hello"
        with pytest.raises(Failed) as refused:  # of all the rest of loopback there is only the sandbox's own
            await sandbox.talk(HELLO, port, "127.0.0.2")
        assert refused.value.errno == errno.ECONNREFUSED
        with pytest.raises(Failed) as unreachable:
            await sandbox.talk(HELLO, port, "10.0.0.1")
        assert unreachable.value.errno == errno.ENETUNREACH


async def test_every_byte_arrives_in_order_both_ways_at_once(sandbox: Sandbox) -> None:
    async with serving(echo) as port:
        sandbox.allow(f"localhost:{port}")
        code = """
        data = random.Random(7).randbytes(20_000_000)
        def send():
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        sender = threading.Thread(target=send)
        sender.start()
        digest, size = hashlib.sha256(), 0
        while part := client.recv(100_000):
            digest.update(part)
            size += len(part)
        sender.join()
        answer = [size, digest.digest() == hashlib.sha256(data).digest()]
        """
        answer = await sandbox.talk(code, port)
        assert answer == [20_000_000, True]
        await until(lambda: sandbox.relay.taken == 0, "the connection is over")


async def test_half_closed_either_way(sandbox: Sandbox) -> None:
    async def answer_after_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"first")
        writer.write_eof()
        assert await reader.read() == b"later"
        done.set()

    done = asyncio.Event()
    async with serving(echo) as echoing, serving(answer_after_the_end) as ending:
        sandbox.allow(f"127.0.0.1:{echoing}", f"127.0.0.1:{ending}")
        code = "client.sendall(b'a'); client.shutdown(socket.SHUT_WR); answer = [client.recv(9).decode() for _ in '12']"
        assert await sandbox.talk(code, echoing) == ["a", ""]
        code = "answer = [client.recv(9).decode() for _ in '12']; client.sendall(b'later'); client.close()"
        assert await sandbox.talk(code, ending) == ["first", ""]
        await asyncio.wait_for(done.wait(), 60)
        await until(lambda: sandbox.relay.taken == 0, "both connections are over")


async def test_where_a_name_leads_is_decided_outside(sandbox: Sandbox) -> None:
    """Inside by /etc/hosts, outside by the machine's resolver, which here knows two addresses, the first one dead."""
    asked: list[Target] = []

    async def look_up(target: Target) -> tuple[Address, ...]:
        asked.append(target)
        return tuple(Address(socket.AF_INET, (address, target.port)) for address in ("127.0.0.2", "127.0.0.3"))

    async with serving(echo, "127.0.0.3") as port:
        sandbox.allow(f"Db.Internal:{port}", look_up=look_up)
        assert await sandbox.talk(HELLO, port, "127.100.0.1") == "hello"
    assert asked == [Target("db.internal", port)]


async def test_over_ipv6(sandbox: Sandbox) -> None:
    async with serving(echo, "::1") as port:
        sandbox.allow(f"[::1]:{port}")
        assert await sandbox.talk(HELLO, port, "::1") == "hello"


# --- what goes wrong -------------------------------------------------------------------------------------------------

# The reset may come before the client knows that it is connected.
TRY = """
try:
    with socket.create_connection((address, port), 60) as client:
        client.sendall(b"x")
        client.recv(1)
except OSError as error:
    answer = errno.errorcode[error.errno]
"""


def closed_port() -> int:
    """One that nobody listens on: it has just been given back."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


async def test_a_refused_connection_is_reset_and_logged_and_the_log_is_not_flooded(
    sandbox: Sandbox, clock: FakeClock
) -> None:
    port = closed_port()
    sandbox.allow(f"127.0.0.1:{port}")
    for _ in range(5):
        assert await sandbox.run(TRY, address="127.0.0.1", port=port) == "ECONNRESET"
    line = f"network: 127.0.0.1:{port}: Connection refused (the function's connection was reset)"
    assert sandbox.log == [line]
    await clock.advance(1)
    for _ in range(2):
        await sandbox.run(TRY, address="127.0.0.1", port=port)
    assert sandbox.log == [line, f"{line}; 4 more before"]
    sandbox.relay.close()
    assert sandbox.log[2:] == [f"network: 127.0.0.1:{port}: 1 more"]


async def test_a_name_that_leads_nowhere(sandbox: Sandbox) -> None:
    async def look_up(target: Target) -> tuple[Address, ...]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    sandbox.allow("db.internal:5432", look_up=look_up)
    assert await sandbox.run(TRY, address="127.100.0.1", port=5432) == "ECONNRESET"
    assert sandbox.log == ["network: db.internal:5432: Name or service not known (the function's connection was reset)"]


async def test_a_host_that_does_not_answer(sandbox: Sandbox) -> None:
    with socket.socket() as server, contextlib.ExitStack() as queue:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        for _ in range(4):  # more than the queue of a server holds that accepts nothing
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        sandbox.allow(f"127.0.0.1:{port}", connect_timeout=0.1)
        assert await sandbox.run(TRY, address="127.0.0.1", port=port) == "ECONNRESET"
    assert sandbox.log == [f"network: 127.0.0.1:{port}: no answer within 0.1 s (the function's connection was reset)"]


async def test_a_connection_that_breaks_outside_breaks_inside_and_does_not_just_end(sandbox: Sandbox) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        reset(writer.get_extra_info("socket"))

    async with serving(break_off) as port:
        sandbox.allow(f"127.0.0.1:{port}")
        assert await sandbox.run(TRY, address="127.0.0.1", port=port) == "ECONNRESET"
        await until(lambda: sandbox.relay.taken == 0, "the connection is over")


async def test_a_connection_that_breaks_inside_breaks_outside(sandbox: Sandbox) -> None:
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        try:
            await reader.read()
            ended.set_result("ended")
        except ConnectionResetError:
            ended.set_result("broke")

    async with serving(wait_for_the_end) as port:
        sandbox.allow(f"127.0.0.1:{port}")
        await sandbox.talk("client.recv(1); " + RESET, port)
        assert await asyncio.wait_for(ended, 60) == "broke"
        await until(lambda: sandbox.relay.taken == 0, "the connection is over")


async def test_without_descriptors_connections_wait(sandbox: Sandbox) -> None:
    async with serving(echo) as port:
        sandbox.allow(f"127.0.0.1:{port}")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            talking = asyncio.create_task(sandbox.talk(HELLO, port))
            await until(lambda: sandbox.log, "it said so")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert await talking == "hello"
    assert sandbox.log == [f"network: 127.0.0.1:{port}: no connection can be taken now: Too many open files"]


# --- functions that mean no good -------------------------------------------------------------------------------------


async def test_who_never_reads_holds_back_the_sender_and_nobody_else(sandbox: Sandbox) -> None:
    sent: dict[int, int] = {}
    before: dict[int, int] = {}
    still = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(bytes(100_000))
            await writer.drain()
            sent[id(writer)] = sent.get(id(writer), 0) + 100_000

    def standing_still() -> bool:
        nonlocal before, still
        still = still + 1 if sent == before else 0
        before = dict(sent)
        return len(sent) == 16 and still == 20

    async with serving(pour) as pouring, serving(echo) as port:
        sandbox.allow(f"127.0.0.1:{pouring}", f"127.0.0.1:{port}")
        code = "clients = [socket.create_connection((address, port)) for _ in range(16)]"
        await sandbox.run(code, address="127.0.0.1", port=pouring)
        await until(standing_still, "every sender is held back")
        assert await sandbox.talk(HELLO, port) == "hello"
        # Once it reads, it goes on where it was.
        code = "answer = 0\nwhile answer < wanted: answer += len(clients[0].recv(1_000_000))"
        wanted = max(sent.values()) + 1_000_000
        assert await sandbox.run(code, wanted=wanted) >= wanted


async def test_who_never_stops_sending_is_held_back_by_who_does_not_read(sandbox: Sandbox) -> None:
    async def read_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        cast("asyncio.Transport", writer.transport).pause_reading()
        await asyncio.Event().wait()

    async with serving(read_nothing) as port:
        sandbox.allow(f"127.0.0.1:{port}")
        # The process may send until nothing is taken for as long as a poll lasts: kernels' buffers and 64 KB are full.
        code = """
        client.setblocking(False)
        answer, poll = 0, select.poll()
        poll.register(client, select.POLLOUT)
        while poll.poll(500):
            answer += client.send(bytes(100_000))
        """
        taken = await sandbox.talk(code, port)
        assert 0 < taken < 50_000_000


async def test_no_more_connections_than_places_and_the_others_wait(sandbox: Sandbox) -> None:
    served = 0

    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        await echo(reader, writer)

    async with serving(count) as port:
        sandbox.allow(f"127.0.0.1:{port}")
        code = "clients = [socket.create_connection((address, port)) for _ in range(200)]"
        await sandbox.run(code, address="127.0.0.1", port=port)
        await until(lambda: served == 128, "all places are taken")
        assert await sandbox.run("answer = len(select.select(clients, [], [], 0)[0])") == 0
        assert (served, sandbox.relay.taken) == (128, 128)
        assert sandbox.log == ["network: connections: all 128 places are taken; others wait"]
        # Those that have waited are served in the place of those that go.
        code = """
        for client in clients[:128]:
            client.close()
        for client in clients[128:]:
            client.sendall(b"x")
        answer = b"".join(client.recv(1) for client in clients[128:]).decode()
        """
        assert await sandbox.run(code) == "x" * 72


async def test_a_place_is_taken_for_a_moment_at_least_so_that_a_storm_is_slowed_down(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventfn.workers.relay._LEAST_STAY", 3600.0)
    port = closed_port()
    sandbox.allow(f"127.0.0.1:{port}", places=3)
    code = """
    clients = [socket.create_connection((address, port)) for _ in range(20)]
    while len(select.select(clients, [], [], 60)[0]) < 3:
        pass
    """
    await sandbox.run(code, address="127.0.0.1", port=port)
    # All three were refused long ago, and the fourth still waits.
    assert await sandbox.run("answer = len(select.select(clients, [], [], 0)[0])") == 3
    assert sandbox.relay.taken == 3


async def test_thousands_of_connections_that_come_and_go_leave_nothing_behind(sandbox: Sandbox) -> None:
    async with serving(echo) as port:
        sandbox.allow(f"127.0.0.1:{port}", places=64)
        descriptors = len(os.listdir("/proc/self/fd"))
        code = """
        for turn in range(1000):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex((address, port))
            if turn % 3 == 0:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        """
        storm = asyncio.create_task(sandbox.run(code, address="127.0.0.1", port=port))
        while not storm.done():
            assert sandbox.relay.taken <= 64
            assert len(os.listdir("/proc/self/fd")) <= descriptors + 4 * 64 + 8
            await asyncio.sleep(0)
        await storm
        assert await sandbox.talk(HELLO, port) == "hello"
        await until(lambda: sandbox.relay.taken == 0, "all connections are over")
        await until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors, "their descriptors are closed")


# --- the end ---------------------------------------------------------------------------------------------------------


async def test_the_death_of_the_function_ends_its_connections(sandbox: Sandbox) -> None:
    ended = asyncio.Event()

    async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        ended.set()

    async with serving(wait_for_the_end) as port:
        sandbox.allow(f"127.0.0.1:{port}")
        await sandbox.talk("", port)
        await until(lambda: sandbox.relay.taken == 1, "it is connected")
        await asyncio.to_thread(sandbox.inside.kill)
        await asyncio.wait_for(ended.wait(), 60)
        await until(lambda: sandbox.relay.taken == 0, "the connection is over")


async def test_closing_ends_everything_at_once(sandbox: Sandbox) -> None:
    """Connected, looking up, waiting for a look-up, waiting for a place: no task and no descriptor is left."""
    began, ended = asyncio.Event(), asyncio.Event()

    async def look_up(target: Target) -> tuple[Address, ...]:
        await asyncio.Event().wait()
        raise AssertionError("it was cancelled")

    async def wait_for_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began.set()
        await reader.read()
        ended.set()

    open_before = len(descriptors())
    tasks_before = asyncio.all_tasks()
    async with serving(wait_for_the_end) as port:
        sandbox.allow(f"127.0.0.1:{port}", "db.internal:1", look_up=look_up, places=3)
        await sandbox.talk("", port)
        await asyncio.wait_for(began.wait(), 60)
        await sandbox.run("waiting = [socket.create_connection(('127.100.0.1', 1)) for _ in '1234']")
        await until(lambda: sandbox.relay.taken == 3, "as many as may are served")
        sandbox.relay.close()
        sandbox.relay.close()  # again, which changes nothing
        sandbox.names.close()
        await asyncio.wait_for(ended.wait(), 60)
        code = "answer = socket.socket().connect_ex(('127.100.0.1', 1))"
        assert await sandbox.run(code) == errno.ECONNREFUSED
    await until(lambda: asyncio.all_tasks() == tasks_before, "every task has ended")
    await until(lambda: len(descriptors()) <= open_before, "every descriptor is closed")


def sockets_that_are_no_doors() -> Iterator[socket.socket]:
    yield socket.socket()
    yield socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0eventfn-test-" + os.urandom(8).hex())
    listener.listen()
    yield listener


async def test_what_is_no_listening_tcp_socket_is_refused_and_closed() -> None:
    clock = FakeClock()
    for wrong in sockets_that_are_no_doors():
        with pytest.raises(ValueError, match="does not listen"):
            Relay([wrong], [Target("db", 1)], Names(clock), print, clock)
        assert wrong.fileno() == -1
    listener = socket.create_server(("127.0.0.1", 0))
    with pytest.raises(ValueError, match="1 sockets for 2 targets"):
        Relay([listener], [Target("db", 1), Target("db", 2)], Names(clock), print, clock)
    assert listener.fileno() == -1
