"""Answers that a program streams over the Runtime API."""

from __future__ import annotations

import textwrap
from pathlib import Path

import msgspec
import pytest

from .conftest import Workbench
from .external import deploy
from .test_streaming import Taker, streamed

# `chunked(id, chunks, trailers, headers)` posts an answer piece by piece, by hand: http.client knows no trailers.
CHUNKED = """
import base64, socket

def chunked(id, chunks, trailers={}, headers={"Content-Type": "text/plain"}, end=True):
    host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
    link = socket.create_connection((host, int(port)))
    head = [f"POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1", "Host: x", "Transfer-Encoding: chunked",
            "Lambda-Runtime-Function-Response-Mode: streaming", "Trailer: " + ", ".join(trailers)]
    head += [f"{name}: {value}" for name, value in headers.items()]
    link.sendall(("\\r\\n".join(head) + "\\r\\n\\r\\n").encode())
    for chunk in chunks:
        link.sendall(b"%x\\r\\n%b\\r\\n" % (len(chunk), chunk))
    if not end:
        link.close()
        return None
    ending = "".join(f"{name}: {value}\\r\\n" for name, value in trailers.items())
    link.sendall(b"0\\r\\n" + ending.encode() + b"\\r\\n")
    return link.makefile("rb").readline()

def each(stream):
    while True:
        _, headers, body = call("GET", "invocation/next")
        stream(headers["Lambda-Runtime-Aws-Request-Id"], json.loads(body))
"""


async def test_what_it_streams_arrives_while_it_is_made(bench: Workbench, tmp_path: Path) -> None:
    source = """
        def stream(id, event):
            print(chunked(id, [b"first", b" second", b"x" * event]), flush=True)
        each(stream)
    """
    deploy(bench, "fn", tmp_path, CHUNKED + textwrap.dedent(source))
    outcome, taker = await streamed(bench, "fn", 100_000)
    assert outcome.ok, outcome
    assert outcome.payload == b""
    assert taker.content_type == "text/plain"
    assert taker.body == b"first second" + 100_000 * b"x"
    assert "202" in await bench.sink.saw("HTTP/1.1")


async def test_whoever_asks_for_no_stream_gets_it_in_one_piece(bench: Workbench, tmp_path: Path) -> None:
    deploy(bench, "fn", tmp_path, CHUNKED + "each(lambda id, event: chunked(id, [b'[1,', b' 2]']))")
    assert await bench.result("fn") == [1, 2]


async def test_a_program_that_answers_in_one_piece_writes_nothing_to_the_stream(
    bench: Workbench, tmp_path: Path
) -> None:
    deploy(bench, "fn", tmp_path, "serve(lambda event, headers: event)")
    outcome, taker = await streamed(bench, "fn", "whole")
    assert (outcome.payload, taker.begun) == (b'"whole"', 0)


async def test_a_failure_half_way_comes_in_trailers(bench: Workbench, tmp_path: Path) -> None:
    source = """
        error = json.dumps({"errorType": "Broken", "errorMessage": "half-way"}).encode()
        trailers = {"Lambda-Runtime-Function-Error-Type": "Function.Broken",
                    "Lambda-Runtime-Function-Error-Body": base64.b64encode(error).decode()}
        each(lambda id, event: chunked(id, [b"some"], trailers))
    """
    deploy(bench, "fn", tmp_path, CHUNKED + textwrap.dedent(source))
    outcome, taker = await streamed(bench, "fn")
    assert taker.body == b"some"
    assert (outcome.error_type, outcome.error_message) == ("Broken", "half-way")
    assert msgspec.json.decode(outcome.payload) == {"errorType": "Broken", "errorMessage": "half-way"}


async def test_a_stream_that_is_cut_off_is_a_failure(bench: Workbench, tmp_path: Path) -> None:
    deploy(bench, "fn", tmp_path, CHUNKED + "each(lambda id, event: chunked(id, [b'some'], end=False))")
    outcome, taker = await streamed(bench, "fn")
    assert taker.body == b"some"
    assert outcome.error_type == "Runtime.TruncatedResponse"


async def test_another_mode_is_refused(bench: Workbench, tmp_path: Path) -> None:
    source = """
        def wrong(id, event):
            mode = {"Lambda-Runtime-Function-Response-Mode": "dripping"}
            print(call("POST", f"invocation/{id}/response", "1", mode)[0], flush=True)
        each(wrong)
    """
    deploy(bench, "fn", tmp_path, CHUNKED + textwrap.dedent(source))
    outcome = await bench.invoke("fn")
    assert outcome.error_type == "Runtime.InvalidResponseModeHeader"
    await bench.sink.saw("400")


async def test_a_slow_reader_holds_the_program_back(bench: Workbench, tmp_path: Path) -> None:
    source = """
        def endless(id, event):
            def pieces():
                for number in range(event):
                    if number % 16 == 0:
                        print("piece", number, flush=True)
                    yield b"x" * 65536
            chunked(id, pieces())
        each(endless)
    """
    deploy(bench, "fn", tmp_path, CHUNKED + textwrap.dedent(source), timeout=60)
    taker = Taker(holding=True)
    running = bench.begin("fn", 1024, stream=taker)
    await taker.took(1)
    assert not running.done()
    held = taker.size
    assert held < 1 << 20, "a turn's worth and no more"
    taker.go_on()
    outcome = await running
    assert outcome.ok, outcome
    assert taker.size == 1024 * 65536


@pytest.mark.parametrize("size", [6_291_556, 6_291_557])
async def test_an_answer_may_be_so_large(bench: Workbench, tmp_path: Path, size: int) -> None:
    source = """
        def large(id, event):
            print(call("POST", f"invocation/{id}/response", b'"' + b"x" * (event - 2) + b'"')[0], flush=True)
        each(large)
    """
    deploy(bench, "fn", tmp_path, CHUNKED + textwrap.dedent(source), timeout=60, memory_size=256)
    outcome = await bench.invoke("fn", size)
    if size == 6_291_556:
        assert outcome.ok, outcome.error_message
        assert len(outcome.payload) == size
    else:
        assert outcome.error_type == "Function.ResponseSizeTooLarge"
        await bench.sink.saw("413")
    await bench.sink.saw("END")  # it has asked for the next event
    assert (await bench.invoke("fn", 3)).ok, "in the same environment"
    assert sum(message.startswith("INIT_START") for message in bench.sink.messages()) == 1
