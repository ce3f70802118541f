"""A function's first request, which goes along with the settings: nothing of it shows but the time that it saves."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from eventfn.workers.child import frames

from .conftest import Workbench, error_of

COUNTS = """
import os, time
{at_init}
def handler(event, context):
    print("request")
    with open("/tmp/served", "a") as served:
        served.write(".")
    return os.path.getsize("/tmp/served")
"""
ORDER = ["INIT_START", "init", "START", "request", "END", "REPORT"]


def order(bench: Workbench, name: str) -> list[str]:
    return [message.split(" ", 1)[0] for message in bench.sink.messages(name)]


# What takes longer than the moment that the environment is given leaves the request to be sent again.
@pytest.mark.parametrize("at_init", ["", "time.sleep(0.1)"], ids=["at once", "slowly"])
async def test_it_is_run_once_and_the_log_has_its_order(bench: Workbench, at_init: str) -> None:
    for number in range(8):
        name = f"fn{number}"
        bench.deploy(name, COUNTS.format(at_init=f"print('init')\n{at_init}"))
        assert await bench.result(name) == 1
        assert order(bench, name) == ORDER
        assert await bench.result(name) == 2, "by the same environment"
        assert order(bench, name) == ORDER + ORDER[2:]


async def test_what_an_init_writes_without_python_comes_before_its_start_too(bench: Workbench) -> None:
    for number in range(8):
        name = f"fn{number}"
        bench.deploy(name, COUNTS.format(at_init="os.write(1, b'init ' + b'x' * 20_000 + b'\\n')"))
        assert await bench.result(name) == 1
        assert order(bench, name) == ORDER


@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_its_time_is_its_own_and_not_the_inits(bench: Workbench, kind: str) -> None:
    bench.deploy(
        "fn",
        f"""
        import time
        time.sleep(0.015)
        {kind} handler(event, context):
            return context.get_remaining_time_in_millis()
        """,
        timeout=3,
    )
    outcome = await bench.invoke("fn")
    assert 2500 < msgspec.json.decode(outcome.payload) <= 3000
    assert outcome.init_ms is not None
    assert outcome.init_ms >= 15
    assert outcome.duration_ms < 3000


async def test_a_large_one_waits_until_the_environment_is_ready(bench: Workbench) -> None:
    bench.deploy("fn", "def handler(event, context): return len(event)")
    assert await bench.result("fn", "x" * 5_000_000) == 5_000_000


async def test_who_comes_meanwhile_gets_an_environment_of_his_own(bench: Workbench) -> None:
    bench.deploy(
        "fn", "import time\nfrom who import ME\ndef handler(event, context):\n    time.sleep(event)\n    return ME"
    )
    first = bench.begin("fn", 1)
    assert bench.pool.stats("fn").waiting == 1
    assert bench.pool.stats("fn").starting == 1
    second = bench.begin("fn", 0)
    assert bench.pool.stats("fn").starting == 2
    done, _ = await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
    assert done == {second}
    assert (await first).payload != (await second).payload


async def test_an_init_that_fails_answers_it_once(bench: Workbench) -> None:
    bench.deploy("fn", "raise ValueError('no')")
    outcome = await bench.invoke("fn")
    assert outcome.error_type == "ValueError"
    assert error_of(outcome)["errorMessage"] == "no"
    assert bench.pool.stats("fn").waiting == 0


async def test_a_process_that_dies_in_its_init_leaves_it_with_an_error(bench: Workbench) -> None:
    bench.deploy("fn", "import os\nos._exit(7)")
    outcome = await bench.invoke("fn")
    assert outcome.error_type == "Runtime.ExitError"
    assert bench.pool.stats("fn").waiting == 0


async def test_closing_meanwhile_answers_it(bench: Workbench) -> None:
    bench.deploy("fn", "import time\ntime.sleep(60)\ndef handler(event, context): return 1")
    answer = bench.begin("fn")
    while bench.pool.stats("fn").starting == 0:
        await asyncio.sleep(0)
    await bench.pool.close()
    outcome = await answer
    assert outcome.error_message is not None
    assert "the workers were closed" in outcome.error_message


FORGED = frames.join(frames.READY, number=1)


async def test_a_request_that_was_not_given_cannot_have_been_begun(bench: Workbench) -> None:
    bench.deploy("fn", f"import os\nos.write(3, {FORGED!r})\ndef handler(event, context): return 1")
    outcome = await bench.invoke("fn", "x" * 100_000)
    assert outcome.error_type == "Runtime.ExitError"
    assert "it has begun with a request that it was not given" in error_of(outcome)["errorMessage"]


async def test_a_forged_beginning_takes_from_its_own_time(bench: Workbench) -> None:
    bench.deploy(
        "fn",
        f"import os, time\nos.write(3, {FORGED!r})\ntime.sleep(60)\ndef handler(event, context): return 1",
        timeout=1,
    )
    began = time.monotonic()
    outcome = await bench.invoke("fn")
    assert outcome.error_type == "Sandbox.Timedout"
    assert time.monotonic() - began < 30


async def test_copies_have_it_too(bench: Workbench, tmp_path: Path) -> None:
    bench.deploy("fn", COUNTS.format(at_init="print('init')"), snap_start=True)
    assert await bench.result("fn") == 1
    lines = order(bench, "fn")
    assert lines[lines.index("RESTORE_START") :] == ["RESTORE_START", "RESTORE_REPORT", *ORDER[2:]]
