from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from eventfn.observe import node_file
from eventfn.observe.node_file import NodeFile


def node(pid: int) -> NodeFile:
    return NodeFile(pid, "0.1.0", 1, "127.0.0.1:1", None, "secret")


def here(folder: Path, node: NodeFile) -> NodeFile:
    return msgspec.structs.replace(node, folder=folder.stat().st_ino)


def a_pid_that_is_gone() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_what_is_written_is_found_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    node_file.write(tmp_path, node(os.getpid()))
    assert node_file.running(tmp_path) == here(tmp_path, node(os.getpid()))
    assert (tmp_path / "node.json").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["node.json"]


def test_a_new_node_replaces_the_file_of_one_that_was_killed(tmp_path: Path) -> None:
    gone = a_pid_that_is_gone()
    node_file.write(tmp_path, node(gone))
    assert node_file.running(tmp_path) is None
    node_file.write(tmp_path, node(os.getpid()))
    assert node_file.running(tmp_path) == here(tmp_path, node(os.getpid()))


def test_a_copy_of_a_folder_is_not_the_running_nodes(tmp_path: Path) -> None:
    original, copy, moved = tmp_path / "original", tmp_path / "copy", tmp_path / "moved"
    original.mkdir()
    node_file.write(original, node(os.getpid()))
    shutil.copytree(original, copy)
    assert node_file.running(copy) is None
    original.rename(moved)
    assert node_file.running(moved) is not None


def test_a_node_removes_its_own_file_and_no_other(tmp_path: Path) -> None:
    node_file.write(tmp_path, node(os.getpid()))
    node_file.remove(tmp_path, os.getpid() + 1)
    assert (tmp_path / "node.json").exists()
    node_file.remove(tmp_path, os.getpid())
    assert not (tmp_path / "node.json").exists()
    node_file.remove(tmp_path, os.getpid())


def test_no_folder_no_file_or_a_damaged_one_is_no_node(tmp_path: Path) -> None:
    assert node_file.running(tmp_path / "absent") is None
    assert node_file.running(tmp_path) is None
    (tmp_path / "node.json").write_text('{"pid": 1')
    assert node_file.running(tmp_path) is None
    (tmp_path / "file").touch()
    assert node_file.running(tmp_path / "file") is None
