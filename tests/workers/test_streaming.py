"""Answers that are sent while they are made, from generators in real environments to whoever takes them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from eventfn.event import MAX_STREAMED_RESPONSE, MAX_SYNC_RESPONSE, Buffer, Outcome, OutcomeKind
from eventfn.workers.child import frames
from tests.workers.conftest import Workbench, error_of, until

_PATIENCE = 30
PRELUDE = "application/vnd.awslambda.http-integration-response"


class Taker:
    """Takes chunks, as long as it wants to: `holding` is a client that does not read, `leave` one that goes."""

    def __init__(self, *, holding: bool = False) -> None:
        self.begun = 0
        self.content_type: str | None = None
        self.chunks: list[bytes] = []
        self.size = 0
        self.keeps = True
        self._holding = holding
        self._gone = False
        self._resume: Callable[[], None] = lambda: None
        self._arrived = asyncio.Event()

    def begin(self, content_type: str | None) -> None:
        assert not self.chunks
        self.begun += 1
        self.content_type = content_type

    def write(self, chunk: Buffer) -> None:
        assert self.begun == 1
        self.size += len(chunk)
        if self.keeps:
            self.chunks.append(bytes(chunk))
        self._arrived.set()

    @property
    def full(self) -> bool:
        return self._holding

    @property
    def gone(self) -> bool:
        return self._gone

    def on_room(self, resume: Callable[[], None]) -> None:
        self._resume = resume

    def hold(self) -> None:
        self._holding = True

    def go_on(self) -> None:
        self._holding = False
        self._resume()

    def leave(self) -> None:
        self._gone = True
        self._resume()

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    async def took(self, size: int) -> None:
        """Returns once it has so many bytes."""
        async with asyncio.timeout(_PATIENCE):
            while self.size < size:
                self._arrived.clear()
                await self._arrived.wait()


async def streamed(bench: Workbench, name: str, event: object = None) -> tuple[Outcome, Taker]:
    taker = Taker()
    async with asyncio.timeout(_PATIENCE):
        return await bench.begin(name, event, stream=taker), taker


DEF = """
def handler(event, context):
    for each in event:
        yield each
"""
ASYNC_DEF = """
async def handler(event, context):
    for each in event:
        yield each
"""
RETURNS_ITERATOR = """
def handler(event, context):
    return iter(event)
"""
RETURNS_GENERATOR_FROM_ASYNC = """
async def handler(event, context):
    return (each for each in event)
"""
RETURNS_ASYNC_FROM_DEF = """
async def generate(event):
    for each in event:
        yield each

def handler(event, context):
    return generate(event)
"""
CALLABLE = """
class Handler:
    async def __call__(self, event, context):
        for each in event:
            yield each

handler = Handler()
"""
KINDS = {
    "def": DEF,
    "async def": ASYNC_DEF,
    "an iterator": RETURNS_ITERATOR,
    "a generator of an async def": RETURNS_GENERATOR_FROM_ASYNC,
    "an async generator of a def": RETURNS_ASYNC_FROM_DEF,
    "a callable": CALLABLE,
}
every_kind = pytest.mark.parametrize("code", KINDS.values(), ids=KINDS)
BOTH = {"def": "def", "async def": "async def"}
both = pytest.mark.parametrize("kind", BOTH)


@every_kind
async def test_each_piece_is_a_chunk_and_the_outcome_comes_last(bench: Workbench, code: str) -> None:
    bench.deploy("f", code)
    for _ in range(2):  # and the environment is as good as before
        outcome, taker = await streamed(bench, "f", ["one ", "", "zwölf"])
        assert outcome.ok
        assert outcome.payload == b""
        assert taker.chunks == [b"one ", "zwölf".encode()]
        assert (taker.begun, taker.content_type) == (1, None)
    assert await bench.result("f", ["one ", "zwölf"]) == "one zwölf"


@every_kind
async def test_a_dict_first_is_what_the_response_says_before_its_body(bench: Workbench, code: str) -> None:
    bench.deploy("f", code)
    prelude = {"statusCode": 201, "headers": {"x": "y"}}
    outcome, taker = await streamed(bench, "f", [prelude, "body"])
    assert outcome.ok
    assert taker.content_type == PRELUDE
    assert taker.body == b'{"statusCode": 201, "headers": {"x": "y"}}' + bytes(8) + b"body"
    assert await bench.result("f", [prelude, "bo", "dy"]) == {**prelude, "body": "body", "isBase64Encoded": False}


@every_kind
async def test_an_answer_of_nothing_begins_and_ends(bench: Workbench, code: str) -> None:
    bench.deploy("f", code)
    outcome, taker = await streamed(bench, "f", [""])
    assert outcome.ok
    assert (taker.begun, taker.chunks) == (1, [])
    outcome, taker = await streamed(bench, "f", [])
    assert (outcome.ok, outcome.payload, taker.begun) == (True, b"", 0)
    assert await bench.result("f", []) == ""


@pytest.mark.parametrize("code", ["def handler(e, c): return e", "async def handler(e, c): return e"])
async def test_an_answer_in_one_piece_is_in_the_outcome(bench: Workbench, code: str) -> None:
    bench.deploy("f", code)
    outcome, taker = await streamed(bench, "f", {"a": [1]})
    assert (outcome.payload, taker.begun) == (b'{"a": [1]}', 0)


@every_kind
async def test_what_is_neither_text_nor_bytes_breaks_the_answer_there(bench: Workbench, code: str) -> None:
    bench.deploy("f", code)
    outcome, taker = await streamed(bench, "f", ["fine", 7, "never"])
    assert taker.chunks == [b"fine"]
    assert outcome.kind is OutcomeKind.FUNCTION_ERROR
    expected = "Unable to marshal response: a generator is expected to yield str or bytes, got int"
    assert (error_of(outcome)["errorType"], error_of(outcome)["errorMessage"]) == ("Runtime.MarshalError", expected)
    assert (await streamed(bench, "f", ["again"]))[1].chunks == [b"again"]
    whole = await bench.invoke("f", ["fine", {"too": "late"}])
    assert error_of(whole)["errorMessage"] == expected.replace("int", "dict")


@both
async def test_an_error_half_way_leaves_what_was_sent(bench: Workbench, kind: str) -> None:
    bench.deploy(
        "f",
        f"""
        {kind} handler(event, context):
            yield "first"
            print("half-way")
            raise KeyError("gone")
        """,
    )
    outcome, taker = await streamed(bench, "f")
    assert taker.chunks == [b"first"]
    assert outcome.kind is OutcomeKind.FUNCTION_ERROR
    error = error_of(outcome)
    assert (error["errorType"], error["errorMessage"]) == ("KeyError", "'gone'")
    assert [line.splitlines()[0].strip() for line in error["stackTrace"]] == [
        error["stackTrace"][0].splitlines()[0].strip()
    ], "the runtime's own frames are left out"
    messages = bench.sink.messages("f")
    assert "half-way" in messages
    assert any(message.startswith("[ERROR] KeyError") for message in messages)


ENDLESS = """
import os
CLOSED = "never"

{kind} handler(event, context):
    global CLOSED
    if event == "closed":
        yield CLOSED
        return
    CLOSED = "not yet"
    try:
        while True:
            yield b"x" * 10_000
    finally:
        CLOSED = "closed"
        print("the generator was closed")
"""


def endless(kind: str) -> str:
    return ENDLESS.format(kind=kind)


@both
async def test_a_slow_reader_holds_the_function_back(bench: Workbench, kind: str) -> None:
    bench.deploy("f", endless(kind), timeout=60)
    taker = Taker(holding=True)
    answer = bench.begin("f", stream=taker)
    await taker.took(frames.WINDOW - 10_000 - 2 * frames.CHUNK_COST * 27)
    # As much as the window holds, and not a byte more however long it waits: the generator stands.
    for _ in range(200):
        await asyncio.sleep(0)
    assert taker.size <= frames.WINDOW
    taker.go_on()
    await taker.took(10 * frames.WINDOW)
    taker.leave()
    assert (await answer).ok
    assert (await streamed(bench, "f", "closed"))[1].body == b"closed"


@both
async def test_whoever_leaves_closes_the_generator(bench: Workbench, kind: str) -> None:
    bench.deploy("f", endless(kind), timeout=60)
    taker = Taker()
    answer = bench.begin("f", stream=taker)
    await taker.took(1)
    taker.leave()
    async with asyncio.timeout(_PATIENCE):
        outcome = await answer
    assert (outcome.ok, outcome.payload) == (True, b"")
    assert "the generator was closed" in bench.sink.messages("f")
    assert (await streamed(bench, "f", "closed"))[1].body == b"closed", "in the same environment"
    assert bench.pool.stats("f").environments == 1


@both
async def test_whoever_leaves_while_the_function_is_held_back_closes_it_too(bench: Workbench, kind: str) -> None:
    bench.deploy("f", endless(kind), timeout=60)
    taker = Taker(holding=True)
    answer = bench.begin("f", stream=taker)
    await taker.took(100_000)
    taker.leave()
    async with asyncio.timeout(_PATIENCE):
        assert (await answer).ok
    assert (await streamed(bench, "f", "closed"))[1].body == b"closed"


async def test_an_async_generator_that_waits_is_cancelled_when_its_reader_leaves(bench: Workbench) -> None:
    bench.deploy(
        "f",
        """
        import asyncio

        async def handler(event, context):
            yield "waiting"
            try:
                await asyncio.sleep(3600)
            finally:
                print("put away")
        """,
        timeout=60,
    )
    taker = Taker()
    answer = bench.begin("f", stream=taker)
    await taker.took(7)
    taker.leave()
    async with asyncio.timeout(_PATIENCE):
        assert (await answer).ok
    assert "put away" in bench.sink.messages("f")
    assert not any("ERROR" in message for message in bench.sink.messages("f"))


async def test_a_generator_that_will_not_be_closed_is_an_error(bench: Workbench) -> None:
    bench.deploy(
        "f",
        """
        def handler(event, context):
            while True:
                try:
                    yield "more"
                except GeneratorExit:
                    pass
        """,
        timeout=60,
    )
    taker = Taker()
    answer = bench.begin("f", stream=taker)
    await taker.took(1)
    taker.leave()
    async with asyncio.timeout(_PATIENCE):
        assert error_of(await answer)["errorMessage"] == "generator ignored GeneratorExit"
    taker = Taker()
    answer = bench.begin("f", stream=taker)
    await taker.took(100)  # it serves on
    taker.leave()
    await answer


@both
async def test_time_runs_out_half_way(bench: Workbench, kind: str) -> None:
    bench.deploy("f", endless(kind), timeout=0.5)
    taker = Taker(holding=True)  # whoever reads slowly uses up the function's time, as in Lambda
    async with asyncio.timeout(_PATIENCE):
        outcome = await bench.begin("f", stream=taker)
    assert taker.size > 0
    assert outcome.error_type == "Sandbox.Timedout"
    taker.go_on()  # nobody is there any more
    assert (await streamed(bench, "f", "closed"))[1].body == b"never"


@both
async def test_an_environment_that_is_killed_half_way_is_an_error_and_nothing_comes_twice(
    bench: Workbench, kind: str
) -> None:
    bench.deploy(
        "f",
        f"""
        import os, time, signal

        {kind} handler(event, context):
            yield "alive"
            os.kill(os.getpid(), signal.SIGKILL)
            yield "undead"
        """,
    )
    outcome, taker = await streamed(bench, "f")
    assert taker.chunks == [b"alive"]
    assert error_of(outcome)["errorType"] == "Runtime.ExitError"


async def test_a_process_that_is_killed_from_outside_while_it_is_held_back(bench: Workbench) -> None:
    bench.deploy("f", "from who import ME\n" + endless("def"), timeout=60)
    taker = Taker(holding=True)
    answer = bench.begin("f", stream=taker)
    await taker.took(100_000)
    (message,) = [message for message in bench.sink.messages("f") if message.startswith("I am ")]
    os.kill(bench.process_of(message.removeprefix("I am ")), signal.SIGKILL)
    async with asyncio.timeout(_PATIENCE):
        outcome = await answer
    assert outcome.kind is OutcomeKind.FUNCTION_ERROR
    size = taker.size
    taker.go_on()
    taker.leave()
    assert taker.size == size


async def test_one_slow_reader_stops_no_other_of_the_same_environment(bench: Workbench) -> None:
    bench.deploy("f", endless("async def"), timeout=60, concurrency_per_environment=10)
    slow = [Taker(holding=True) for _ in range(4)]
    answers = [bench.begin("f", stream=taker) for taker in slow]
    for taker in slow:
        await taker.took(200_000)
    quick = Taker()
    answers.append(bench.begin("f", stream=quick))
    await quick.took(20 * frames.WINDOW)
    assert bench.pool.stats("f").environments == 1
    assert all(taker.size <= frames.WINDOW for taker in slow)
    for taker in (*slow, quick):
        taker.leave()
    async with asyncio.timeout(_PATIENCE):
        assert all(outcome.ok for outcome in await asyncio.gather(*answers))


async def test_many_small_pieces_arrive_whole_and_in_order(bench: Workbench) -> None:
    bench.deploy(
        "f",
        """
        def handler(event, context):
            for number in range(event):
                yield f"{number}\\n"
        """,
        timeout=60,
    )
    outcome, taker = await streamed(bench, "f", 20_000)
    assert outcome.ok
    assert taker.body == b"".join(b"%d\n" % number for number in range(20_000))


@both
async def test_a_large_piece_goes_in_chunks(bench: Workbench, kind: str) -> None:
    bench.deploy("f", f"{kind} handler(event, context):\n    yield bytearray(event)\n    yield memoryview(b'end')\n")
    outcome, taker = await streamed(bench, "f", 7_000_001)
    assert outcome.ok
    assert taker.body == bytes(7_000_001) + b"end"
    assert max(map(len, taker.chunks)) <= frames.MAX_CHUNK


@both
async def test_more_than_200_mb_is_too_much(bench: Workbench, kind: str) -> None:
    bench.deploy(
        "f",
        f"""
        {kind} handler(event, context):
            whole = bytes(1024 * 1024)
            for _ in range(200):
                yield whole
            yield b"x" * event
        """,
        timeout=60,
    )
    for beyond in (0, 1):
        taker = Taker()
        taker.keeps = False
        async with asyncio.timeout(60):
            outcome = await bench.begin("f", beyond, stream=taker)
        assert taker.size == MAX_STREAMED_RESPONSE
        assert outcome.ok is (beyond == 0)
    error = error_of(outcome)
    assert error["errorType"] == "Function.ResponseSizeTooLarge"
    assert error["errorMessage"].endswith("maximum allowed payload size (209715200 bytes).")


@both
async def test_what_is_put_together_has_the_limits_of_one_answer(bench: Workbench, kind: str) -> None:
    bench.deploy(
        "f",
        f"""
        {kind} handler(event, context):
            try:
                while True:
                    yield event
            finally:
                print("closed")
        """,
        timeout=30,
    )
    outcome = await bench.invoke("f", "x" * 100_000)
    assert error_of(outcome)["errorType"] == "Function.ResponseSizeTooLarge"
    assert str(MAX_SYNC_RESPONSE) in error_of(outcome)["errorMessage"]
    assert "closed" in bench.sink.messages("f")


@both
async def test_bytes_that_are_no_text_need_a_stream_or_a_response_around_them(bench: Workbench, kind: str) -> None:
    bench.deploy(
        "f",
        f"""
        {kind} handler(event, context):
            if event:
                yield event
            yield bytes([255, 0])
        """,
    )
    assert (await streamed(bench, "f"))[1].body == b"\xff\0"
    assert "invoke it with a stream" in error_of(await bench.invoke("f"))["errorMessage"]
    assert await bench.result("f", {"statusCode": 200}) == {"statusCode": 200, "body": "/wA=", "isBase64Encoded": True}


async def test_a_copy_of_a_handler_that_forks_sends_nothing(bench: Workbench) -> None:
    bench.deploy(
        "f",
        """
        import os

        def handler(event, context):
            yield "before "
            os.fork()
            yield "after"
        """,
    )
    outcome, taker = await streamed(bench, "f")
    assert (outcome.ok, taker.body) == (True, b"before after")
    assert (await streamed(bench, "f"))[1].body == b"before after"


async def test_a_copy_of_a_handler_that_forks_reads_nothing(bench: Workbench) -> None:
    """What comes while an answer is held back is for the one that sends it."""
    bench.deploy(
        "f",
        """
        import os

        def handler(event, context):
            for number in range(200):
                yield b"x" * 50_000
                if number % 10 == 0:
                    os.fork()
        """,
    )
    for _ in range(2):
        outcome, taker = await streamed(bench, "f")
        assert (outcome.ok, len(taker.body)) == (True, 10_000_000)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param("chunk(70_000)", id="a chunk that is too large"),
        pytest.param("chunk(60_000) * 5", id="more than there is room for"),
        pytest.param("chunk(0) * 9000", id="a flood of nothing"),
    ],
)
async def test_an_environment_that_takes_more_room_than_it_was_given_is_killed(bench: Workbench, said: str) -> None:
    bench.deploy(
        "f",
        f"""
        import os, struct, time

        def chunk(size):
            return struct.pack("!BBIIIIII", {frames.CHUNK}, 0, 1, 0, 0, 0, size, 0) + bytes(size)

        def handler(event, context):
            said = memoryview({said})
            while said:
                said = said[os.write(3, said):]
            time.sleep(60)
        """,
        timeout=60,
    )
    taker = Taker(holding=True)
    async with asyncio.timeout(_PATIENCE):
        outcome = await bench.begin("f", stream=taker)
    assert "more of a streamed answer than there is room for" in error_of(outcome)["errorMessage"]
    assert taker.size <= frames.WINDOW


async def test_a_chunk_that_nobody_asked_for_breaks_the_protocol(bench: Workbench) -> None:
    bench.deploy(
        "f",
        f"""
        import os, time

        def handler(event, context):
            os.write(3, {frames.join(frames.CHUNK, payload=b"x", number=1)!r})
            time.sleep(60)
        """,
        timeout=60,
    )
    outcome = await bench.invoke("f")
    assert "a chunk of an answer to request 1, which is not streamed" in error_of(outcome)["errorMessage"]


async def test_closing_the_pool_ends_what_is_streamed(bench: Workbench) -> None:
    bench.deploy("f", endless("def"), timeout=60)
    taker = Taker()
    answer = bench.begin("f", stream=taker)
    await taker.took(1)
    await bench.pool.close()
    assert (await answer).kind is OutcomeKind.SYSTEM_ERROR
    size = taker.size
    taker.leave()
    await until(lambda: taker.size == size)
