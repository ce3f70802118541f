from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eventfn.errors import ConfigError, FunctionNotFound, HandlerError
from eventfn.event import OutcomeKind


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "hello.py").write_text(
        "import os\n"
        "def handler(event, context):\n"
        "    return {'message': f\"{os.environ['GREETING']}, {event['name']}\"}\n"
    )
    (tmp_path / "eventfn.toml").write_text(
        '[functions.hello]\nhandler = "hello.handler"\nenvironment = { GREETING = "Hello" }\n'
    )
    return tmp_path


def test_a_project_s_function_is_called(eventfn_project: Callable[..., Any], project: Path) -> None:
    opened = eventfn_project(project)
    assert opened.invoke("hello", {"name": "Ada"}) == {"message": "Hello, Ada"}
    with pytest.raises(HandlerError, match="KeyError: 'name'"):
        opened.invoke("hello", {})
    with pytest.raises(FunctionNotFound, match="declared: hello"):
        opened.invoke("hallo", {})


async def test_a_test_with_a_loop_calls_it_too(eventfn_project: Callable[..., Any], project: Path) -> None:
    assert eventfn_project(project / "eventfn.toml").outcome("hello", {}).kind is OutcomeKind.FUNCTION_ERROR


def test_a_mistake_in_the_file_is_told(eventfn_project: Callable[..., Any], project: Path) -> None:
    (project / "eventfn.toml").write_text('[functions.hello]\nhandler = "hello.handler"\ntimout = 3\n')
    with pytest.raises(ConfigError, match="timout"):
        eventfn_project(project)


def test_a_function_that_no_file_declares_is_called(eventfn_function: Callable[..., Any], project: Path) -> None:
    hello = eventfn_function(project, "hello.handler", environment={"GREETING": "Servus"})
    assert hello({"name": "Ada"}) == {"message": "Servus, Ada"}


def test_each_test_gets_a_new_module(eventfn_function: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "counts.py").write_text("calls = []\ndef handler(e, c):\n    calls.append(e)\n    return len(calls)\n")
    first = eventfn_function(tmp_path, "counts.handler")
    assert [first({}), first({})] == [1, 2]


WITHOUT_CACHE = """
def test(eventfn_function):
    assert eventfn_function(".", "hello.handler", environment={"GREETING": "Hello"})({"name": "Ada"})
"""


def test_it_needs_no_cache_of_pytests(project: Path) -> None:
    (project / "test_hello.py").write_text(WITHOUT_CACHE)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", "."],
        cwd=project,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout


LOADED = """
import sys, pytest
before = set(sys.modules)
import eventfn.testing.pytest_plugin
print(*set(sys.modules) - before)
"""


def test_loading_the_plugin_is_light() -> None:
    out = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stdout
    assert "eventfn.testing.pytest_plugin" in out.split()
    heavy = {"asyncio", "aiohttp", "hypothesis", "eventfn.config", "eventfn.workers", "eventfn.testing.project"}
    assert not heavy & set(out.split())
