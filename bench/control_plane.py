"""How fast are functions made through the API, and how soon does a new one answer?

CreateFunction of small zips by 8 callers, beside the same zips written to disk as durably by as many threads; and a zip
of 1 MB from the request that creates its function to the function's first answer, beside unpacking it.
"""

from __future__ import annotations

import asyncio
import base64
import io
import itertools
import os
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import msgspec

from bench import running
from bench.invoke_api import SIGNED, TIME
from bench.rounds import Plan, interleaved
from bench.table import OURS, Row, rows

CALLERS = 8
PER_SECOND = 100  # what a round is planned by
FUNCTIONS = "/2015-03-31/functions"
ROLE = "arn:aws:iam::000000000000:role/bench"


async def measure(plan: Plan) -> list[Row]:
    numbers = itertools.count()
    async with (
        running.node() as node,
        aiohttp.ClientSession(f"http://{node.admin}", headers={"Authorization": SIGNED, "X-Amz-Date": TIME}) as session,
    ):
        await _first_answer(session, numbers)  # warm
        count = plan.count(PER_SECOND)
        rates = await interleaved(
            {
                OURS: lambda: _created_per_second(session, numbers, count),
                "the zips, written and synced": lambda: asyncio.to_thread(_written_per_second, count),
            },
            plan.rounds,
        )
        answers = await interleaved(
            {
                OURS: lambda: _first_answer(session, numbers),
                "the zip, unpacked": lambda: asyncio.to_thread(_unpack_ms),
            },
            3 * plan.rounds,
        )
    made = {name: statistics.median(figures) for name, figures in rates.items()}
    first = {name: statistics.median(figures) for name, figures in answers.items()}
    return rows(f"CreateFunction, {CALLERS} callers", "/s", "more", made) + rows(
        "CreateFunction to the first answer, zip of 1 MB", "ms", "less", first
    )


def _zip(number: int, filling: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("app.py", f"def handler(event, context): return {number}\n")
        if filling:
            archive.writestr("data.bin", os.urandom(filling))
    return buffer.getvalue()


async def _create(session: aiohttp.ClientSession, number: int, archive: bytes) -> None:
    request = {
        "FunctionName": f"f{number}",
        "Runtime": f"python{sys.version_info.major}.{sys.version_info.minor}",
        "Handler": "app.handler",
        "Role": ROLE,
        "Code": {"ZipFile": base64.b64encode(archive).decode()},
    }
    async with session.post(FUNCTIONS, data=msgspec.json.encode(request)) as answer:
        if answer.status != 201:
            raise RuntimeError(await answer.text())


async def _created_per_second(session: aiohttp.ClientSession, numbers: Iterator[int], count: int) -> float:
    async def caller() -> None:
        for _ in range(count // CALLERS + 1):
            number = next(numbers)
            await _create(session, number, _zip(number))

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return CALLERS * (count // CALLERS + 1) / (time.perf_counter() - began)


def _written_per_second(count: int) -> float:
    """Content and name, as the node keeps a blob."""
    with tempfile.TemporaryDirectory(prefix="eventfn-bench-") as folder, ThreadPoolExecutor(CALLERS) as threads:

        def write(number: int) -> None:
            with Path(folder, f"{number}.part").open("wb") as file:
                file.write(_zip(number))
                file.flush()
                os.fsync(file.fileno())
            Path(folder, f"{number}.part").rename(Path(folder, str(number)))
            descriptor = os.open(folder, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)

        began = time.perf_counter()
        list(threads.map(write, range(count)))
        return count / (time.perf_counter() - began)


async def _first_answer(session: aiohttp.ClientSession, numbers: Iterator[int]) -> float:
    """Milliseconds. It is asked again and again while it is Pending, as a caller without patience would."""
    number = next(numbers)
    archive = _zip(number, 1_000_000)
    began = time.perf_counter()
    await _create(session, number, archive)
    while True:
        async with session.post(f"{FUNCTIONS}/f{number}/invocations", data=b"null") as answer:
            if answer.status == 200 and await answer.read() == str(number).encode():
                return (time.perf_counter() - began) * 1000
        await asyncio.sleep(0.001)


def _unpack_ms() -> float:
    archive = io.BytesIO(_zip(0, 1_000_000))
    with tempfile.TemporaryDirectory(prefix="eventfn-bench-") as folder:
        began = time.perf_counter()
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder)
        return (time.perf_counter() - began) * 1000
