"""A node that is told to stop while it still installs what its functions require."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.processes import Orphans
from tests.support import RunningNode, until, write_project

PROJECT = """
[functions.hello]
handler = "hello.handler"
requirements = "requirements.txt"
"""
HELLO = "def handler(event, context): ..."
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "endless"
version = "1"
"""
BACKEND = """
import pathlib, time


def get_requires_for_build_wheel(config_settings=None):
    pathlib.Path("building").touch()
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_an_install_is_stopped_at_once(tmp_path: Path, number: signal.Signals, orphans: Orphans) -> None:
    folder, data = write_project(tmp_path / "project", PROJECT, hello=HELLO), tmp_path / "data"
    package = write_project(folder / "endless", "", backend=BACKEND)
    (package / "pyproject.toml").write_text(PYPROJECT)
    (folder / "requirements.txt").write_text(f"{package}\n")
    node = RunningNode(folder, data)
    node.spawn()
    await until((package / "building").exists, "pip builds the package")
    node.process.send_signal(number)
    assert await node.ended() == 0, node.output()
    assert node.output().splitlines()[-1] == "stopped"
    await orphans.gone()
    assert [left for left in (data / "layers").iterdir() if left.is_dir()] == []
