"""A pool without processes: handlers run in this one, `def` in a thread and `async def` on the loop.

Faithful: handler strings, imports, the context object, variables, the working folder, answers and error objects are
made by the very code that runs inside an environment. Not so: nothing is contained. All functions share one
interpreter and its variables, so those of invocations that overlap mix; a `def` handler that ran out of time is
answered for and goes on in the background; requirements are not another Python's; logs are what the test captures.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from eventfn.event import Invocation, Outcome, OutcomeKind, ResponseStream
from eventfn.testing import iterating
from eventfn.testing.iterating import Exited
from eventfn.workers import failures
from eventfn.workers.child import frames, loading, results
from eventfn.workers.child.context import Facts, LambdaContext
from eventfn.workers.child.events import HttpEvents
from eventfn.workers.contract import Done, PoolStats, Prepared
from eventfn.workers.failures import Failure
from eventfn.workers.runtimes import telling

_STREAM = "1970/01/01/[$LATEST]" + "0" * 32
_HOSTS_OWN = ("AWS_", "LAMBDA_", "_")  # of the variables that eventfn sets: PATH and TZ stay this process's


class InProcessPool:
    """For tests that need no sandbox: the bus's, and a user's own (the fixtures of eventfn.testing.pytest_plugin)."""

    def __init__(self) -> None:
        self._prepared: dict[str, Prepared] = {}
        self._loaded: dict[str, _Loaded] = {}
        self._running: dict[asyncio.Task[None], str] = {}
        self._surroundings = _Surroundings()

    async def start(self) -> None:
        """Nothing has to be there before the first invocation."""

    def deploy(self, prepared: Prepared) -> None:
        self.retire(prepared.key)
        self._prepared[prepared.key] = prepared

    def retire(self, key: str) -> None:
        self._prepared.pop(key, None)
        if (loaded := self._loaded.pop(key, None)) is not None:
            loaded.forget()

    def invoke(
        self, invocation: Invocation, done: Done, *, log_tail: bool = False, stream: ResponseStream | None = None
    ) -> None:
        running = asyncio.get_running_loop().create_task(self._invoke(invocation, done, stream))
        self._running[running] = invocation.function
        running.add_done_callback(self._running.pop)

    def stats(self, key: str) -> PoolStats:
        in_flight = sum(function == key for function in self._running.values())
        return PoolStats(environments=in_flight, idle=0, starting=0, in_flight=in_flight, waiting=0)

    async def drain(self, deadline: float) -> None:
        if self._running:
            await asyncio.wait(self._running, timeout=deadline)

    async def close(self) -> None:
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for key in list(self._prepared):
            self.retire(key)
        self._surroundings.restore()

    async def _invoke(self, invocation: Invocation, done: Done, stream: ResponseStream | None) -> None:
        try:
            outcome = await self._outcome(invocation, stream)
        except asyncio.CancelledError:
            done(Outcome(OutcomeKind.SYSTEM_ERROR, b"", invocation.request_id, error_message="the pool was closed"))
            raise
        done(outcome)

    async def _outcome(self, invocation: Invocation, stream: ResponseStream | None) -> Outcome:
        loop = asyncio.get_running_loop()
        prepared, request_id = self._prepared[invocation.function], invocation.request_id
        seconds = float(prepared.function.timeout)
        began = loop.time()
        try:
            loaded = self._load(prepared)
            context = LambdaContext(
                loaded.facts, request_id, int(seconds * 1000), invocation.invoked_arn, invocation.client_context or ""
            )
            event = _event(invocation)
            left = self._surroundings.enter(loaded.variables, prepared.task_root)
            working = _start(loaded.handler, event, context)
            working.add_done_callback(lambda _: left())
            if not await _ended(working, seconds):
                return _failed(failures.timed_out(seconds), request_id)
            try:
                answer = loaded.encoder.encode(working.result())
            except results.Iterates as found:
                left = self._surroundings.enter(loaded.variables, prepared.task_root)
                iterated = asyncio.ensure_future(iterating.answer(found.pieces, loaded.encoder.encode, stream))
                iterated.add_done_callback(lambda _: left())
                if not await _ended(iterated, seconds - (loop.time() - began)):
                    return _failed(failures.timed_out(seconds), request_id)
                answer = iterated.result()
            if len(answer) > frames.MAX_PAYLOAD:
                return _failed(failures.response_too_large(), request_id)
        except Exited as exited:
            return _failed(failures.exited(exited.code), request_id)
        except Exception as error:
            # The first frames are this file's: what follows is the function's own, as in an environment.
            while error.__traceback__ is not None and error.__traceback__.tb_frame.f_code.co_filename == __file__:
                error.__traceback__ = error.__traceback__.tb_next
            described = results.describe(error, request_id)
            return _failed(failures.reported(described.error_type, described.message, described.payload), request_id)
        return Outcome(OutcomeKind.SUCCESS, answer, request_id, duration_ms=(loop.time() - began) * 1000)

    def _load(self, prepared: Prepared) -> _Loaded:
        """Imports the module at the first invocation, and again after an import that failed, as Lambda does."""
        key = prepared.key
        if key not in self._loaded:
            for other in self._loaded.values():
                other.make_way(prepared.task_root)
            self._loaded[key] = _Loaded(prepared, self._surroundings)
        return self._loaded[key]


async def _ended(working: asyncio.Future[Any], seconds: float) -> bool:
    """Whether it came to its own end in time."""
    try:
        await asyncio.wait({working}, timeout=seconds)
    finally:
        working.cancel()  # what has ended cannot be cancelled any more
    return working.done() and not working.cancelled()


def _event(invocation: Invocation) -> Any:
    apart = invocation.apart
    if apart is None:
        return results.decode(invocation.payload)
    request_id, payload = invocation.request_id, invocation.payload
    return HttpEvents().event(payload, str(apart.body, "utf-8"), request_id, apart.time, apart.time_epoch)


class _Loaded:
    """A function whose module is imported. Raises whatever the import raised."""

    def __init__(self, prepared: Prepared, surroundings: _Surroundings) -> None:
        settings = telling.settings(prepared, "none", None, provisioned=False)
        own = prepared.function.environment
        variables = settings.variables | telling.own_variables(prepared, _STREAM)
        self.variables = {k: v for k, v in variables.items() if k in own or k.startswith(_HOSTS_OWN)}
        self._path = settings.path
        self._root = prepared.task_root
        self._modules: dict[str, ModuleType] = {}
        sys.path[:0] = self._path
        before = set(sys.modules)
        left = surroundings.enter(self.variables, self._root)
        try:
            self.handler = loading.load(settings.handler)
            self.facts = Facts()
            self.encoder = results.Encoder()
        except BaseException:
            self.forget()
            raise
        finally:
            left()
            for name in set(sys.modules) - before:
                if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(self._root):
                    self._modules[name] = sys.modules[name]

    def make_way(self, root: str) -> None:
        """Before a function with another root is loaded: both may have an app.py, and each is to get its own."""
        if root != self._root:
            self._unload()

    def forget(self) -> None:
        """The next one to load it begins anew, as a new environment does."""
        for entry in self._path:
            with contextlib.suppress(ValueError):
                sys.path.remove(entry)
        self._unload()

    def _unload(self) -> None:
        for name, module in self._modules.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _start(handler: loading.Handler, event: Any, context: LambdaContext) -> asyncio.Future[Any]:
    if inspect.iscoroutinefunction(handler):
        return asyncio.ensure_future(_awaited(handler(event, context)))
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: Exception | None) -> None:
        if not answer.cancelled():
            answer.set_result(value) if error is None else answer.set_exception(error)

    def work() -> None:
        value: Any = None
        failure: Exception | None = None
        try:
            value = handler(event, context)
        except SystemExit as error:
            failure = Exited(error)
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the loop was closed: a handler that ran out of time came too late
            loop.call_soon_threadsafe(settle, value, failure)

    # A daemon, and not a thread of an executor: one that never ends must not hold up the end of the tests.
    threading.Thread(target=contextvars.copy_context().run, args=(work,), daemon=True).start()
    return answer


async def _awaited(answer: Awaitable[Any]) -> Any:
    try:
        return await answer
    except SystemExit as error:  # which would end the loop
        raise Exited(error) from None


def _failed(failure: Failure, request_id: str) -> Outcome:
    return Outcome(
        OutcomeKind.FUNCTION_ERROR,
        failure.body(request_id),
        request_id,
        error_type=failure.error_type,
        error_message=failure.message(request_id),
    )


class _Surroundings:
    """This process's variables and working folder: the function's while one runs, and the test's own after the last."""

    def __init__(self) -> None:
        self._inside = 0
        self._before: tuple[dict[str, str], str] | None = None

    def enter(self, variables: dict[str, str], folder: str) -> Callable[[], None]:
        """Returns how to leave again."""
        if self._before is None:
            self._before = dict(os.environ), os.getcwd()  # noqa: PTH109 - text, as chdir wants it back
        self._inside += 1
        os.environ.update(variables)
        os.chdir(folder)
        return self._leave

    def _leave(self) -> None:
        self._inside -= 1
        if self._inside == 0:
            self.restore()

    def restore(self) -> None:
        if self._before is not None:
            variables, folder = self._before
            self._before = None
            os.environ.clear()
            os.environ.update(variables)
            os.chdir(folder)
