"""The data folder: made, locked, and refused with every byte in place when it is not ours to touch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from eventfn.engine import database, rows
from eventfn.engine.contract import Put, Send
from eventfn.engine.folder import DataFolder
from eventfn.engine.sqlite import SqliteEngine
from eventfn.errors import DataFolderLocked, DataFolderUnusable
from eventfn.testing.engines import LEASE, NOW, ids

CRASH = """
import asyncio, os, sys
from pathlib import Path
from eventfn.engine.contract import Send
from eventfn.engine.sqlite import SqliteEngine

async def main():
    engine = SqliteEngine(Path(sys.argv[1]))
    await engine.open(1)
    await engine.commit([Send("q", str(n), b"x" * 1000) for n in range(200)], 1)
    os._exit(0)

asyncio.run(main())
"""

HOLD = """
import asyncio, sys
from pathlib import Path
from eventfn.engine.sqlite import SqliteEngine

async def main():
    await SqliteEngine(Path(sys.argv[1])).open(1)
    print("open", flush=True)
    sys.stdin.read()

asyncio.run(main())
"""


def bytes_of(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    """A data folder that was used and closed."""
    folder = tmp_path / "data"
    engine = SqliteEngine(folder)
    await engine.open(NOW)
    await engine.commit([Send("q", str(n), b"x" * 1000) for n in range(200)], NOW)
    await engine.close()
    return folder


@pytest.fixture
def crashed(tmp_path: Path) -> Path:
    """A data folder whose process died: all that it committed stands in the write-ahead log."""
    folder = tmp_path / "crashed"
    subprocess.run([sys.executable, "-c", CRASH, str(folder)], check=True)
    assert (folder / "eventfn.db-wal").stat().st_size > 0
    return folder


async def refused(folder: Path, match: str) -> str:
    before = bytes_of(folder)
    engine = SqliteEngine(folder)
    with pytest.raises(DataFolderUnusable, match=match) as error:
        await engine.open(NOW)
    assert bytes_of(folder) == before
    await engine.close()
    assert bytes_of(folder) == before
    return str(error.value)


async def test_a_new_folder_is_ours_alone_with_all_above_it(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "yet" / "there"
    engine = SqliteEngine(folder)
    await engine.open(NOW)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.glob("eventfn.db*")} == {0o600}
    assert json.loads((folder / "version").read_text())["format"] == 2
    assert (folder / "lock").read_text().strip() == str(os.getpid())
    await engine.close()


async def test_what_eventfn_put_there_before_is_no_hindrance(tmp_path: Path) -> None:
    for name in ("logs", "layers", "code", "bytecode"):
        (tmp_path / name).mkdir()
    (tmp_path / "node.json").write_text("{}")
    engine = SqliteEngine(tmp_path)
    await engine.open(NOW)
    await engine.close()


async def test_somebody_elses_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "logs").mkdir()
    assert "thesis.tex" in await refused(tmp_path, "no data folder")


async def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(DataFolderUnusable, match="is a file"):
        await SqliteEngine(tmp_path / "data").open(NOW)


async def test_a_newer_folder_is_left_untouched(folder: Path, crashed: Path) -> None:
    for newer in (folder, crashed):
        (newer / "version").write_text('{"format": 99, "eventfn": "9.9.9"}')
        message = await refused(newer, "Upgrade eventfn")
        assert "9.9.9" in message
        assert str(newer) in message


def _garbage(folder: Path) -> None:
    (folder / "eventfn.db").write_bytes(b"this is no database" * 500)


def _torn(folder: Path) -> None:
    with (folder / "eventfn.db").open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(4096)
        file.write(os.urandom(size - 4096))


def _short(folder: Path) -> None:
    with (folder / "eventfn.db").open("r+b") as file:
        file.truncate(5000)


def _another(folder: Path) -> None:
    (folder / "eventfn.db").unlink()
    with sqlite3.connect(folder / "eventfn.db") as db:
        db.execute("CREATE TABLE notes (text)")
    db.close()


def _gone(folder: Path) -> None:
    (folder / "eventfn.db").unlink()


@pytest.mark.parametrize("damage", [_garbage, _torn, _short, _another, _gone])
async def test_a_damaged_folder_is_left_untouched(folder: Path, damage: Callable[[Path], None]) -> None:
    damage(folder)
    assert "left untouched" in await refused(folder, "Restore it from a backup")


@pytest.mark.parametrize("damage", [_garbage, _gone])
async def test_a_crashed_and_damaged_folder_is_left_untouched(crashed: Path, damage: Callable[[Path], None]) -> None:
    damage(crashed)
    await refused(crashed, "Restore it from a backup")


@pytest.mark.parametrize("content", ["", "garbage", '{"format": "one"}', "[]"])
async def test_a_version_that_cannot_be_read_is_refused(folder: Path, content: str) -> None:
    (folder / "version").write_text(content)
    await refused(folder, "version file cannot be read")


@pytest.mark.parametrize("place", ["/proc", "/sys"])  # where root may not write either
async def test_a_folder_that_cannot_be_written_is_refused_with_what_to_do(place: str) -> None:
    folder = Path(place, "eventfn")
    engine = SqliteEngine(folder)
    with pytest.raises(DataFolderUnusable, match=f"{folder} cannot be written .*choose another one with --data"):
        await engine.open(NOW)
    await engine.close()


async def test_a_database_without_its_version_is_refused(folder: Path) -> None:
    (folder / "version").unlink()
    await refused(folder, "version file is missing")


async def test_a_crashed_folder_opens_with_all_of_it(crashed: Path) -> None:
    engine = SqliteEngine(crashed)
    await engine.open(NOW)
    assert len(await engine.peek("q", 1000)) == 200
    await engine.close()


async def test_only_what_was_closed_in_order_is_not_looked_through(folder: Path, crashed: Path) -> None:
    looked: list[bool] = []

    def inspect(path: Path, whole: bool) -> str | None:
        looked.append(not whole)
        return database.inspect(path, whole)

    for place in (folder, crashed):
        data = DataFolder(place)
        data.take(database.create, inspect, database.upgrade)
        data.let_go()
    assert looked == [False, True]

    shutil.copytree(folder, folder.with_name("restored"), copy_function=shutil.copyfile)  # with times of its own
    restored = DataFolder(folder.with_name("restored"))
    restored.take(database.create, inspect, database.upgrade)
    restored.let_go()
    assert looked == [False, True, True]


def test_a_large_database_is_looked_through_without_its_contents(
    crashed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_LOOKED_THROUGH", 0)
    assert database.inspect(crashed / "eventfn.db", whole=False) is None
    _garbage(crashed)
    assert database.inspect(crashed / "eventfn.db", whole=False) is not None


async def test_a_folder_of_the_first_format_is_brought_up_to_date(tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "version").write_text('{"format": 1, "eventfn": "0.1.0"}')
    with sqlite3.connect(folder / "eventfn.db") as db:
        db.executescript(rows.SCHEMA)
        db.execute("INSERT INTO message (queue, turn_ms, visible_ms, sent_ms, id) VALUES ('q', 0, 1, 1, 'a')")
        db.execute("INSERT INTO body VALUES (1, 'body')")
    db.close()

    engine = SqliteEngine(folder)
    await engine.open(NOW)
    await engine.commit([Send("q", "b", b"")], NOW)
    assert ids(await engine.claim("q", 10, NOW + LEASE, NOW)) == ["a", "b"]
    await engine.close()

    assert json.loads((folder / "version").read_text())["format"] == 2


async def test_an_interrupted_creation_is_finished(folder: Path, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "eventfn.db.new").write_bytes(b"half")
    engine = SqliteEngine(begun)
    await engine.open(NOW)
    await engine.close()

    almost = tmp_path / "almost"
    shutil.copytree(begun, almost)
    (almost / "eventfn.db").rename(almost / "eventfn.db.new")
    engine = SqliteEngine(almost)
    await engine.open(NOW)
    await engine.commit([Put("k", b"v")], NOW)
    await engine.close()


async def test_a_second_process_is_told_who_holds_the_folder(folder: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        engine = SqliteEngine(folder)
        with pytest.raises(DataFolderLocked, match=f"process {holder.pid}"):
            await engine.open(NOW)
        await engine.close()
    finally:
        holder.kill()
        holder.communicate()
    # The kernel has let go of the lock: nothing has to be cleared away by hand.
    await engine.open(NOW)
    assert len(ids(await engine.peek("q", 1000))) == 200
    await engine.close()


async def test_two_engines_of_one_process_exclude_each_other_too(folder: Path) -> None:
    first, second = SqliteEngine(folder), SqliteEngine(folder)
    await first.open(NOW)
    with pytest.raises(DataFolderLocked):
        await second.open(NOW)
    await first.close()
    await second.open(NOW)
    await second.close()


async def test_half_written_blobs_of_a_dead_process_are_cleared_away(folder: Path) -> None:
    leftover = folder / "blobs" / "abc.part"
    leftover.write_bytes(b"half")
    engine = SqliteEngine(folder)
    await engine.open(NOW)
    assert not leftover.exists()
    await engine.close()
