"""What a reload may do to a node that runs: nothing that takes it down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from eventfn.errors import ConnectorError, EngineFull
from eventfn.functions.model import Function, Project
from eventfn.plugins import Plugins
from eventfn.sandbox.probe import Sandbox
from eventfn.supervisor import Options, Supervisor
from eventfn.testing import FakeClock


class Silent:
    """A reporter."""

    def preparing(self, function: str, text: str) -> None: ...

    def reloaded(self, *changes: Any) -> None: ...


class Loads(Options):
    """One result, or error, for each change."""

    def __init__(self, results: list[Project | Exception]) -> None:
        super().__init__(Path(), None, None, None, watch=True)
        self._results = results

    def load(self, plugins: Plugins) -> Project:
        result = self._results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result


class Pool:
    sandbox = Sandbox("full", "", 6, "pid", None, "none here")

    def __init__(self) -> None:
        self.deployed: list[str] = []
        self.retired: list[str] = []

    def deploy(self, prepared: Any) -> None:
        self.deployed.append(prepared.function.name)

    def retire(self, name: str) -> None:
        self.retired.append(name)


def project(folder: Path, *names: str) -> Project:
    folder.chmod(0o755)  # as root, functions run as somebody else
    (folder / "main.py").write_text("def handler(event, context): ...\n")
    functions = {name: Function(name=name, handler="main.handler", code=str(folder)) for name in names}
    return Project(folder=str(folder), file=None, data=str(folder / "data"), functions=functions)


def node(folder: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> tuple[Any, Pool]:
    async def changes(current: Callable[[], Project]) -> AsyncGenerator[None]:
        for _ in range(times):
            yield

    monkeypatch.setattr("eventfn.reload.changes", changes)
    reporter: Any = Silent()
    made: Any = Supervisor(project(folder), Plugins(), reporter, FakeClock())
    made._pool = pool = Pool()
    return made, pool


@pytest.mark.parametrize("error", [KeyError("a connector's bug"), EngineFull("no space left"), OSError("no such file")])
async def test_a_reload_that_breaks_leaves_the_node_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    made, pool = node(tmp_path, monkeypatch, times=2)
    async with asyncio.TaskGroup() as tasks:
        await made._reload_on_change(Loads([error, project(tmp_path, "f")]), tasks)
    assert str(error) in caplog.text
    assert pool.deployed == ["f"]


async def test_what_is_removed_goes_although_an_address_cannot_be_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def taken(*_: Any) -> None:
        raise ConnectorError("127.0.0.1:80 is taken")

    made, pool = node(tmp_path, monkeypatch, times=1)
    await made._declare(project(tmp_path, "old"))
    monkeypatch.setattr(made._sources, "declare", taken)
    async with asyncio.TaskGroup() as tasks:
        await made._reload_on_change(Loads([project(tmp_path)]), tasks)
    assert pool.retired == ["old"]


async def test_a_watch_that_cannot_be_had_leaves_the_node_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made, _ = node(tmp_path, monkeypatch, times=0)

    async def changes(current: Callable[[], Project]) -> AsyncGenerator[None]:
        raise OSError("OS file watch limit reached")
        yield

    monkeypatch.setattr("eventfn.reload.changes", changes)
    async with asyncio.TaskGroup() as tasks:
        await made._reload_on_change(Loads([]), tasks)
    assert "OS file watch limit reached" in caplog.text
