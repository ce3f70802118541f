"""A node behind a real admin listener, found through a real data folder; the commands run in this process."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from eventfn.api.inward import Inward
from eventfn.api.listener import AdminListener
from eventfn.cli.commands import eventfn
from eventfn.observe import node_file
from eventfn.observe.node_file import NodeFile
from tests.api.fake_node import TOKEN, FakeNode

Eventfn = Callable[..., Result]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of the commands: empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Eventfn:
    """run("invoke", "hello", input=b"{}") as a shell would. A traceback fails the test."""

    def run(*arguments: str | Path, input: bytes | None = None) -> Result:  # noqa: A002 - as CliRunner calls it
        result = CliRunner().invoke(eventfn, [str(argument) for argument in arguments], input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def node(folder: Path) -> Iterator[FakeNode]:
    """Runs on the usual data folder of the current folder."""
    node = FakeNode()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    admin = AdminListener(node, "127.0.0.1:0", TOKEN, Inward())
    address = asyncio.run_coroutine_threadsafe(admin.bind(), loop).result(10)
    asyncio.run_coroutine_threadsafe(admin.serve(), loop).result(10)
    data = folder / ".eventfn"
    data.mkdir()
    node_file.write(data, NodeFile(os.getpid(), "0.1.0", 1, address, None, TOKEN))
    yield node
    asyncio.run_coroutine_threadsafe(admin.close(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()
