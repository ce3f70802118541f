from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from eventfn.event import Buffer, Invocation, Outcome, OutcomeKind
from eventfn.functions.model import Function
from eventfn.testing import InProcessPool
from eventfn.units import Duration
from eventfn.workers.contract import Pool, Prepared

Deploy = Callable[..., None]


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[Pool]:
    pool = InProcessPool()
    await pool.start()
    yield pool
    await pool.close()


@pytest.fixture
def deploy(pool: Pool, tmp_path: Path) -> Deploy:
    def deploy(name: str, code: str, handler: str = "app.handler", **settings: Any) -> None:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        (root / "app.py").write_text(code)
        function = Function(name=name, handler=handler, code=str(root), **settings)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        pool.deploy(
            Prepared(
                function=function,
                arn=f"arn:aws:lambda:us-east-1:000000000000:function:{name}",
                version="1",
                task_root=str(root),
                interpreter=sys.executable,
                runtime=f"python{version}",
            )
        )

    return deploy


async def invoke(pool: Pool, name: str, event: Any = None, **more: Any) -> Outcome:
    done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    pool.invoke(Invocation("r-1", name, msgspec.json.encode(event), arn, **more), done.set_result)
    return await done


async def test_both_kinds_of_handler_answer(pool: Pool, deploy: Deploy) -> None:
    deploy("plain", "def handler(event, context): return {'got': event}")
    deploy("waits", "async def handler(event, context): return [event]")
    plain, waits = await invoke(pool, "plain", 7), await invoke(pool, "waits", "x")
    assert (plain.kind, msgspec.json.decode(plain.payload)) == (OutcomeKind.SUCCESS, {"got": 7})
    assert (waits.kind, msgspec.json.decode(waits.payload)) == (OutcomeKind.SUCCESS, ["x"])


async def test_the_context_is_lambda_s(pool: Pool, deploy: Deploy) -> None:
    deploy(
        "told",
        "import os\n"
        "def handler(event, context):\n"
        "    return [context.aws_request_id, context.function_name, context.memory_limit_in_mb,\n"
        "            context.invoked_function_arn, 0 < context.get_remaining_time_in_millis() <= 5000,\n"
        "            context.client_context.custom, os.environ['SIZE'], os.environ['AWS_LAMBDA_FUNCTION_NAME'],\n"
        "            os.path.basename(os.getcwd())]",
        timeout=Duration(5),
        environment={"SIZE": "64"},
    )
    before = dict(os.environ), Path.cwd()
    outcome = await invoke(pool, "told", client_context='{"custom": {"a": 1}}')
    arn = "arn:aws:lambda:us-east-1:000000000000:function:told"
    assert msgspec.json.decode(outcome.payload) == ["r-1", "told", "128", arn, True, {"a": 1}, "64", "told", "told"]
    assert (dict(os.environ), Path.cwd()) == before


BLOCKING = "import threading\ndef handler(event, context): threading.Event().wait()"
WAITING = "import asyncio\nasync def handler(event, context): await asyncio.Event().wait()"

FAILURES: list[tuple[str, str, str]] = [
    ("def handler(event, context): raise KeyError('x')", "KeyError", "'x'"),
    ("async def handler(event, context): raise OSError('x')", "OSError", "x"),
    ("import nothing_of_that_name", "Runtime.ImportModuleError", "Unable to import module 'app': No module named"),
    ("def other(event, context): ...", "Runtime.HandlerNotFound", "Handler 'handler' missing on module 'app'"),
    ("def handler(event context): ...", "Runtime.UserCodeSyntaxError", "Syntax error in module 'app'"),
    ("raise ValueError('at start')", "ValueError", "at start"),
    ("def handler(event, context): return {1, 2}", "Runtime.MarshalError", "Unable to marshal response"),
    ("import sys\ndef handler(event, context): sys.exit(3)", "Runtime.ExitError", "exit status 3"),
    ("import sys\nasync def handler(event, context): sys.exit()", "Runtime.ExitError", "without providing a reason"),
    ("def handler(event, context): return 'x' * 7_000_000", "Function.ResponseSizeTooLarge", "exceeded maximum"),
    (
        "import threading\ndef handler(event, context): threading.Event().wait()",
        "Sandbox.Timedout",
        "after 0.20 seconds",
    ),
    (WAITING, "Sandbox.Timedout", "after 0.20 seconds"),
]


@pytest.mark.parametrize(("code", "error_type", "message"), FAILURES, ids=[failure[1] for failure in FAILURES])
async def test_failures_are_named_as_lambda_names_them(
    pool: Pool, deploy: Deploy, code: str, error_type: str, message: str
) -> None:
    deploy("fails", code, timeout=Duration(0.2))
    for _ in range(2):  # an import that failed is tried again
        outcome = await invoke(pool, "fails")
        assert outcome.kind is OutcomeKind.FUNCTION_ERROR
        assert outcome.error_type == error_type
        assert message in (outcome.error_message or "")
        error = msgspec.json.decode(outcome.payload)
        assert (error["errorType"], message in error["errorMessage"]) == (error_type, True)


async def test_the_stack_begins_in_the_function(pool: Pool, deploy: Deploy) -> None:
    deploy("fails", "def handler(event, context):\n    raise KeyError('x')\n")
    trace = msgspec.json.decode((await invoke(pool, "fails")).payload)["stackTrace"]
    assert len(trace) == 1
    assert 'app.py", line 2, in handler' in trace[0]


async def test_a_module_is_initialised_once_and_anew_after_a_deploy(pool: Pool, deploy: Deploy) -> None:
    code = "calls = []\ndef handler(event, context):\n    calls.append(1)\n    return len(calls)"
    deploy("counts", code)
    assert [(await invoke(pool, "counts")).payload for _ in range(3)] == [b"1", b"2", b"3"]
    deploy("counts", code)
    assert (await invoke(pool, "counts")).payload == b"1"


async def test_functions_with_modules_of_one_name_get_their_own(pool: Pool, deploy: Deploy) -> None:
    deploy("one", "def handler(event, context): return 1")
    deploy("two", "def handler(event, context): return 2")
    assert [(await invoke(pool, name)).payload for name in ("one", "two", "one", "two")] == [b"1", b"2", b"1", b"2"]


async def test_nothing_of_a_function_is_left_behind(tmp_path: Path, pool: Pool, deploy: Deploy) -> None:
    path, modules = list(sys.path), set(sys.modules)
    deploy("one", "def handler(event, context): return 1")
    await invoke(pool, "one")
    assert "app" in sys.modules
    await pool.close()
    assert sys.path == path
    assert "app" not in set(sys.modules) - modules


async def test_drain_waits_and_close_answers_what_is_left(pool: Pool, deploy: Deploy) -> None:
    deploy("waits", WAITING, timeout=Duration(60))
    waiting = asyncio.ensure_future(invoke(pool, "waits"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert pool.stats("waits").in_flight == 1
    await pool.drain(0.01)
    assert not waiting.done()
    await pool.close()
    assert (await waiting).kind is OutcomeKind.SYSTEM_ERROR
    assert pool.stats("waits").in_flight == 0


class Taker:
    """Takes what is streamed: `most` bytes at once, and after `leaves_after` nothing more."""

    def __init__(self, *, most: int = 1_000_000, leaves_after: int = 1_000_000) -> None:
        self.begun: list[str | None] = []
        self.chunks: list[bytes] = []
        self.held_back = 0
        self._most = most
        self._leaves_after = leaves_after
        self._waiting = 0
        self._resume: Callable[[], None] = lambda: None

    def begin(self, content_type: str | None) -> None:
        self.begun.append(content_type)

    def write(self, chunk: Buffer) -> None:
        self.chunks.append(bytes(chunk))
        self._waiting += len(chunk)
        if self.full:
            self.held_back += 1
            asyncio.get_running_loop().call_soon(self._take)

    def _take(self) -> None:
        self._waiting = 0
        self._resume()

    @property
    def full(self) -> bool:
        return self._waiting >= self._most

    @property
    def gone(self) -> bool:
        return sum(map(len, self.chunks)) >= self._leaves_after

    def on_room(self, resume: Callable[[], None]) -> None:
        self._resume = resume


async def streamed(pool: Pool, name: str, taker: Taker, event: Any = None) -> Outcome:
    done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    pool.invoke(Invocation("r-1", name, msgspec.json.encode(event), arn), done.set_result, stream=taker)
    return await done


YIELDS = "def handler(event, context):\n    try:\n        for each in event: yield each\n    finally: print('closed')\n"
both = pytest.mark.parametrize("code", [YIELDS, f"async {YIELDS}"], ids=["def", "async def"])


@both
async def test_generators_stream_as_they_do_in_an_environment(pool: Pool, deploy: Deploy, code: str) -> None:
    deploy("f", code)
    taker = Taker(most=1)
    outcome = await streamed(pool, "f", taker, [{"statusCode": 201}, "one", "zwölf"])
    assert (outcome.kind, outcome.payload) == (OutcomeKind.SUCCESS, b"")
    assert taker.begun == ["application/vnd.awslambda.http-integration-response"]
    assert taker.chunks == [b'{"statusCode": 201}' + bytes(8), b"one", "zwölf".encode()]
    assert taker.held_back == 3
    assert msgspec.json.decode((await invoke(pool, "f", ["a", "b"])).payload) == "ab"


@both
async def test_generators_fail_and_are_closed_as_they_are_in_an_environment(
    pool: Pool, deploy: Deploy, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy("f", code)
    taker = Taker()
    outcome = await streamed(pool, "f", taker, ["one", 7])
    assert (outcome.error_type, taker.chunks) == ("Runtime.MarshalError", [b"one"])
    assert capsys.readouterr().out == "closed\n"
    taker = Taker(leaves_after=3)
    outcome = await streamed(pool, "f", taker, ["one", "two", "three"])
    assert (outcome.kind, taker.chunks) == (OutcomeKind.SUCCESS, [b"one"])
    assert capsys.readouterr().out == "closed\n"


@pytest.mark.parametrize(
    "code",
    [
        "import time\ndef handler(event, context):\n    yield 'a'\n    time.sleep(1)\n",
        "import asyncio\nasync def handler(event, context):\n    yield 'a'\n    await asyncio.Event().wait()\n",
    ],
    ids=["def", "async def"],
)
async def test_time_runs_out_between_two_pieces(pool: Pool, deploy: Deploy, code: str) -> None:
    deploy("f", code, timeout=Duration(0.2))
    taker = Taker()
    outcome = await streamed(pool, "f", taker)
    assert (outcome.error_type, taker.chunks) == ("Sandbox.Timedout", [b"a"])


async def test_exiting_between_two_pieces_is_an_error(pool: Pool, deploy: Deploy) -> None:
    deploy("f", "import sys\ndef handler(event, context):\n    yield 'a'\n    sys.exit(3)\n")
    assert (await streamed(pool, "f", Taker())).error_type == "Runtime.ExitError"
