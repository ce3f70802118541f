"""One data folder, one node: whoever comes second is told who has it, and a folder that is not right is left alone."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.support import command, running_node, write_project

PROJECT = """
    [functions.hello]
    handler = "hello.handler"

    [[functions.hello.triggers]]
    type = "http"
    path = "/hello"
"""
HELLO = "def handler(event, context): return 'hello'"


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def run(folder: Path, data: Path) -> tuple[int, list[str]]:
    """Exit code, and the lines of what an `eventfn run` that cannot start says."""
    ended = command("run", str(folder), "--data", str(data), "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    return ended.returncode, (ended.stdout + ended.stderr).splitlines()


async def test_the_second_node_on_a_data_folder_names_the_first_and_leaves_it_alone(tmp_path: Path) -> None:
    folder, data = write_project(tmp_path / "project", PROJECT, hello=HELLO), tmp_path / "data"
    async with running_node(folder, data) as node:
        node_file = (data / "node.json").read_bytes()
        code, lines = run(folder, data)
        assert code == 1
        assert lines == [
            f"error: Data folder {data} is in use by process {node.process.pid}. "
            "Stop it, or choose another one with --data."
        ]
        assert (data / "node.json").read_bytes() == node_file
        assert await node.fetch("GET", "/hello") == (200, b"hello")


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("version", b'{"format":99,"eventfn":"9.0.0"}', "Upgrade eventfn"),
        ("version", b"\x00\xff", "its version file cannot be read"),
        ("version", None, "its version file is missing"),
        ("eventfn.db", b"no database at all" * 1000, "is damaged"),
        ("eventfn.db", None, "is missing"),
    ],
)
async def test_a_folder_that_is_newer_or_damaged_is_refused_and_left_untouched(
    tmp_path: Path, file: str, content: bytes | None, says: str
) -> None:
    folder, data = write_project(tmp_path / "project", PROJECT, hello=HELLO), tmp_path / "data"
    async with running_node(folder, data) as node:
        await node.submit("hello", {})
    if content is None:
        (data / file).unlink()
    else:
        (data / file).write_bytes(content)
    before = contents(data)
    code, lines = run(folder, data)
    assert code == 1
    assert len(lines) == 1
    assert lines[0].startswith(f"error: Data folder {data}: ")
    assert says in lines[0]
    assert "It was left untouched." in lines[0]
    assert contents(data) == before


async def test_a_start_clears_what_nobody_has_used_for_long(tmp_path: Path) -> None:
    folder, data = write_project(tmp_path / "project", PROJECT, hello=HELLO), tmp_path / "data"
    async with running_node(folder, data) as node:
        (bytecode,) = (data / "bytecode").glob("[!.]*")
        await node.kill()
    unused = data / "layers" / "unused"
    (unused / "python").mkdir(parents=True)
    (data / "layers" / ".half.abc.partial").mkdir()
    for made in (unused, bytecode):
        os.utime(made, (1, 1))
    async with running_node(folder, data) as node:
        assert await node.fetch("GET", "/hello") == (200, b"hello")
        assert list((data / "layers").iterdir()) == []
        assert list((data / "bytecode").iterdir()) == [bytecode], "what is still declared stays, however old"
