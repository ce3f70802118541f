"""A project's functions, called from plain tests: what the fixtures of eventfn.testing.pytest_plugin hand out."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import uuid
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec

from eventfn.config import load
from eventfn.errors import FunctionNotFound, HandlerError
from eventfn.event import Invocation, Outcome
from eventfn.functions.model import Function, Project
from eventfn.functions.packages import prepare
from eventfn.plugins import Plugins
from eventfn.testing.pool import InProcessPool


class LocalProject:
    """Calls functions in this process, one call after the other, from code without an event loop."""

    def __init__(self, project: Project, loop: asyncio.AbstractEventLoop) -> None:
        self.project = project
        self._loop = loop
        self._pool = InProcessPool()
        self._deployed: set[str] = set()

    def invoke(self, name: str, event: Any) -> Any:
        """The function's answer, from JSON. Raises HandlerError when the function failed, FunctionNotFound."""
        outcome = self.outcome(name, event)
        if not outcome.ok:
            raise HandlerError(outcome.error_type or "", outcome.error_message or "", outcome.payload)
        return msgspec.json.decode(outcome.payload)

    def outcome(self, name: str, event: Any) -> Outcome:
        """How the invocation ended, a failure included."""
        return asyncio.run_coroutine_threadsafe(self._outcome(name, event), self._loop).result()

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._pool.close(), self._loop).result()

    async def _outcome(self, name: str, event: Any) -> Outcome:
        function = self.project.functions.get(name)
        if function is None:
            raise FunctionNotFound(name, f"declared: {', '.join(self.project.functions)}")
        if name not in self._deployed:
            self._pool.deploy(await prepare(function, self.project, print))
            self._deployed.add(name)
        ended: asyncio.Future[Outcome] = self._loop.create_future()
        self._pool.invoke(
            Invocation(
                request_id=str(uuid.uuid4()),
                function=name,
                payload=msgspec.json.encode(event),
                invoked_arn=self.project.function_arn(name),
            ),
            ended.set_result,
        )
        return await ended


class LocalFunction:
    """One function; call it with an event."""

    def __init__(self, project: LocalProject, name: str) -> None:
        self._project = project
        self._name = name

    def __call__(self, event: Any) -> Any:
        """The answer, from JSON. Raises HandlerError when the function failed."""
        return self._project.invoke(self._name, event)

    def outcome(self, event: Any) -> Outcome:
        """How the invocation ended, a failure included."""
        return self._project.outcome(self._name, event)


class Bench:
    """Opens projects and functions for one test, and closes them after it."""

    def __init__(self, root: Path, data: Path, loop: asyncio.AbstractEventLoop) -> None:
        self._root = root
        self._data = data
        self._loop = loop
        self._opened: list[LocalProject] = []

    def project(self, path: str | Path = ".") -> LocalProject:
        """The project of a folder, an eventfn.toml or a Python file, from where pytest was started (rootdir).

        Raises ConfigError with every mistake in it.
        """
        return self._open(load(self._root / path, Plugins.installed(), data=self._data))

    def function(self, code: str | Path, handler: str, **settings: Any) -> LocalFunction:
        """A function that no file declares; `settings` are those of [functions.NAME], as Function has them."""
        function = Function(name="function", handler=handler, code=str(self._root / code), **settings)
        project = Project(folder=str(self._root), file=None, data=str(self._data), functions={function.name: function})
        return LocalFunction(self._open(project), function.name)

    def close(self) -> None:
        for project in self._opened:
            project.close()

    def _open(self, project: Project) -> LocalProject:
        self._opened.append(LocalProject(project, self._loop))
        return self._opened[-1]


@contextlib.contextmanager
def bench(root: Path, data: Path) -> Generator[Bench, None, None]:
    """A bench with an event loop of its own in a thread, so that tests with and without a loop can call functions."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="eventfn.testing", daemon=True)
    thread.start()
    opened = Bench(root, data, loop)
    try:
        yield opened
    finally:
        opened.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
