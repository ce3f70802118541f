"""Environments have the credentials that they were started with, and end before these expire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from eventfn.aws.endpoints import Told
from eventfn.errors import ConnectorError
from eventfn.functions.model import Function, Network
from eventfn.sandbox.probe import Sandbox
from eventfn.testing.clock import FakeClock
from eventfn.units import Duration
from tests.workers.conftest import Workbench, until, workbench

HOUR = 3600
KEY = "import os\ndef handler(event, context):\n    return os.environ['AWS_ACCESS_KEY_ID']\n"


class Hourly:
    """Gives each environment another key, that expires in an hour."""

    def __init__(self, clock: FakeClock) -> None:
        self.given = 0
        self.error: ConnectorError | None = None
        self._clock = clock

    def network(self, function: Function) -> Network:
        return function.network

    async def told(self, function: Function, runtime: str) -> tuple[Told, float]:
        if self.error is not None:
            raise self.error
        self.given += 1
        told = Told({"AWS_ENDPOINT_URL": "http://there"}, {"AWS_ACCESS_KEY_ID": f"key {self.given}"})
        return told, self._clock.now_ms() / 1000 + HOUR


@pytest.fixture
def hourly(fake_clock: FakeClock) -> Hourly:
    return Hourly(fake_clock)


@pytest_asyncio.fixture
async def told(tmp_path: Path, fake_clock: FakeClock, sandbox: Sandbox, hourly: Hourly) -> AsyncIterator[Workbench]:
    async with workbench(tmp_path, fake_clock, sandbox, surroundings=hourly, idle_timeout=Duration(86_400)) as ready:
        yield ready


async def pass_time(clock: FakeClock, seconds: float) -> None:
    """In steps that a pool looks around between."""
    for _ in range(round(seconds / 60)):
        await clock.advance(60)


async def test_an_environment_ends_before_its_credentials_do(told: Workbench, fake_clock: FakeClock) -> None:
    told.deploy("fn", KEY, timeout=Duration(60))
    assert await told.result("fn") == "key 1"
    await pass_time(fake_clock, HOUR - 60 - 180 - 120)
    assert await told.result("fn") == "key 1"
    await pass_time(fake_clock, 180)
    await until(lambda: told.pool.stats("fn").environments == 0)
    assert await told.result("fn") == "key 2"


async def test_provisioned_environments_are_replaced(told: Workbench, fake_clock: FakeClock, hourly: Hourly) -> None:
    told.deploy("fn", KEY, provisioned_concurrency=1)
    await until(lambda: told.pool.stats("fn").idle == 1)
    await pass_time(fake_clock, HOUR)
    await until(lambda: hourly.given == 2 and told.pool.stats("fn").idle == 1)
    assert await told.result("fn") == "key 2"


async def test_what_runs_is_finished_first(told: Workbench, fake_clock: FakeClock) -> None:
    code = """
        import os
        import time

        def handler(event, context):
            print("begun")
            time.sleep(event)
            return os.environ["AWS_ACCESS_KEY_ID"]
    """
    told.deploy("fn", code, timeout=Duration(600))
    running = told.begin("fn", 2)  # seconds of the machine, in which an hour passes for the pool
    await told.sink.saw("begun")
    await pass_time(fake_clock, HOUR)
    assert not running.done()
    async with asyncio.timeout(30):
        outcome = await running
    assert outcome.payload == b'"key 1"'
    await until(lambda: told.pool.stats("fn").environments == 0)
    assert await told.result("fn", 0) == "key 2"


async def test_a_copy_has_credentials_of_its_own(told: Workbench) -> None:
    told.deploy("fn", f"{KEY}print('init with', os.environ['AWS_ACCESS_KEY_ID'])\n", snap_start=True)
    key = await told.result("fn")
    original = await told.sink.saw("init with")
    assert original in ("init with key 1", "init with key 2")
    assert key in ("key 1", "key 2")
    assert original != f"init with {key}"


async def test_without_credentials_nothing_starts_and_it_is_said(told: Workbench, hourly: Hourly) -> None:
    hourly.error = ConnectorError("The role defined for the function cannot be assumed by Lambda.")
    told.deploy("fn", KEY)
    outcome = await told.invoke("fn")
    assert outcome.error_message == (
        "no environment could be started: The role defined for the function cannot be assumed by Lambda."
    )
    hourly.error = None
    assert await told.result("fn") == "key 1"


async def test_a_functions_own_endpoint_wins(told: Workbench) -> None:
    code = "import os\ndef handler(event, context):\n    return os.environ['AWS_ENDPOINT_URL']\n"
    told.deploy("one", code)
    told.deploy("two", code, environment={"AWS_ENDPOINT_URL": "http://mine"})
    assert (await told.result("one"), await told.result("two")) == ("http://there", "http://mine")
