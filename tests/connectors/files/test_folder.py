"""The system calls: who writes, what is on which file system, what is seen of a folder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventfn_files.folder import Folder, _file_system, _has_writers
from eventfn_files.ledger import Busy, Gone, Whole
from eventfn_files.settings import FilesSettings, Rules


@contextmanager
def reading(path: Path) -> Iterator[int]:
    file = os.open(path, os.O_RDONLY)
    try:
        yield file
    finally:
        os.close(file)


def opened(folder: Path, recursive: bool = True) -> Folder:
    return Folder(folder, folder / ".eventfn", Rules(FilesSettings(path=".", recursive=recursive)), may_create=True)


def test_a_writer_is_seen_until_it_closes(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("x")
    with reading(path) as file:
        assert _has_writers(file) is False
        with path.open("a"):
            assert _has_writers(file) is True
        with path.open(), path.open("rb"):
            assert _has_writers(file) is False


def test_asking_kills_nobody_and_keeps_no_writer_out(tmp_path: Path) -> None:
    """Whoever opens the file while the lease is held makes the kernel signal us: with SIGIO it would be the end."""
    path = tmp_path / "f"
    path.write_text("x")
    script = "import sys\nfor _ in range(20_000): open(sys.argv[1], 'a').close()"
    with subprocess.Popen([sys.executable, "-c", script, str(path)]) as writer, reading(path) as file:
        answers = {_has_writers(file)}
        while writer.poll() is None:
            answers.add(_has_writers(file))
    assert writer.returncode == 0
    assert answers == {True, False}


def test_an_open_file_is_busy_and_a_closed_one_whole(tmp_path: Path) -> None:
    folder, stop = opened(tmp_path), threading.Event()
    with (tmp_path / "f").open("w") as file:
        file.write("x")
        assert folder.look(["f"], stop) == [Busy()]
    (look,) = folder.look(["f"], stop)
    assert isinstance(look, Whole)
    assert (look.etag, look.sure) == ("9dd4e461268c8034f5c8564e155c67a6", True)


def test_what_is_no_plain_file_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/etc/hostname")
    (tmp_path / "folder link").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    names = ["folder", "link", "folder link/hostname", "pipe", "nothing", "link/x"]
    assert opened(tmp_path).look(names, threading.Event()) == [Gone()] * len(names)


def test_a_look_stops_when_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    stop = threading.Event()
    stop.set()
    assert opened(tmp_path).look(["f"], stop) == []


def test_a_glance_at_a_folder_sees_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("x")
    (tmp_path / "a" / ".hidden").write_text("x")
    assert list(opened(tmp_path).glance(["a"]).found) == ["a/b/c"]
    assert list(opened(tmp_path).glance(["a/b/c", "a/x"]).found) == ["a/b/c"]
    assert opened(tmp_path).glance(["a/x", "a/b/c/d"]).gone == ["a/x", "a/b/c/d"]
    assert list(opened(tmp_path, recursive=False).glance(["a"]).found) == []
    assert list(opened(tmp_path, recursive=False).scan().found) == []


def test_the_file_system_of_a_folder(tmp_path: Path) -> None:
    assert _file_system("/proc/self") == "proc"
    assert _file_system(str(tmp_path))


def test_a_lease_means_nothing_on_a_network_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a refusal does not say that somebody writes, so nothing is sure."""
    monkeypatch.setattr("eventfn_files.folder._file_system", lambda root: "nfs4")
    with (tmp_path / "f").open("w"):
        (look,) = opened(tmp_path).look(["f"], threading.Event())
    assert isinstance(look, Whole)
    assert not look.sure
