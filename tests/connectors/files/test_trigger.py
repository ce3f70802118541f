"""The files trigger on a real folder: slow writers, every way a file can arrive, and a host that dies at any step."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import msgspec
import pytest
import watchfiles

import eventfn_files.trigger
from eventfn.clock import SystemClock
from eventfn.errors import ConnectorError
from eventfn.event import Batch
from eventfn.testing import FakeClock
from eventfn.testing.contexts import MemoryPositions, trigger_context
from eventfn.testing.waiting import eventually
from eventfn.trigger import DONE, Reject, Retry
from eventfn.units import Duration
from eventfn_files import FilesTrigger
from eventfn_files.settings import FilesSettings

BOTH = ("ObjectCreated:*", "ObjectRemoved:*")


class Host:
    """What outlives a process: the folder, the positions, and the events that were accepted together with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.inbox = folder / "inbox"
        self.clock: Any = SystemClock()
        self.positions = MemoryPositions()
        self.events: list[dict[str, Any]] = []
        self.settings: dict[str, Any] = {"path": "inbox", "events": BOTH, "quiet_time": Duration(0.02)}

    @property
    def told(self) -> list[tuple[str, str]]:
        """What was announced so far: ("created" or "removed", name)."""
        return [
            (
                event["eventName"].removeprefix("Object").split(":")[0].lower(),
                unquote_plus(event["s3"]["object"]["key"], errors="surrogateescape"),
            )
            for event in self.events
        ]

    def make(self) -> FilesTrigger:
        context = trigger_context(self.folder, clock=self.clock, positions=self.positions)
        return FilesTrigger(FilesSettings(**self.settings), None, context)

    async def accept(self, batch: Batch) -> None:
        """The event and its position, in one step."""
        for record in batch.records:
            self.events += msgspec.json.decode(record.payload)["Records"]
            assert record.position is not None
            await self.positions.put(record.position.key, record.position.value)

    async def serve(self, trigger: FilesTrigger) -> None:
        await trigger.connect()
        while True:
            batch = await trigger.read(100)
            await self.accept(batch)
            await trigger.settle(batch, [DONE] * len(batch.records))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[FilesTrigger]:
        trigger = self.make()
        serving = asyncio.ensure_future(self.serve(trigger))
        try:
            yield trigger
            assert not serving.done(), serving.exception()
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await trigger.close(1)

    async def nothing_more(self) -> None:
        """A last file is announced, so all that was to come before it has come; then nothing was told of others."""
        before = len(self.events)
        (self.inbox / "sentinel").write_text("x")
        await eventually(lambda: ("created", "sentinel") in self.told[before:])
        (self.inbox / "sentinel").unlink()
        await eventually(lambda: ("removed", "sentinel") in self.told[before:])
        assert [told for told in self.told[before:] if told[1] != "sentinel"] == []


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


# --- arriving ---------------------------------------------------------------------------------------------------------


async def test_a_missing_folder_is_made_and_a_file_in_it_announced(host: Host) -> None:
    async with host.running():
        await eventually(host.inbox.is_dir)
        (host.inbox / "photo.jpg").write_bytes(b"pixels")
        await eventually(lambda: host.events)
    (event,) = host.events
    assert event["s3"]["object"]["size"] == 6
    assert event["s3"]["object"]["eTag"] == hashlib.md5(b"pixels").hexdigest()
    assert event["eventfn"]["path"] == str(host.inbox / "photo.jpg")


async def test_a_slow_writer_is_announced_once_after_it_has_closed(host: Host) -> None:
    host.inbox.mkdir()
    async with host.running():
        with (host.inbox / "slow").open("wb", buffering=0) as file:
            for piece in range(5):
                file.write(b"piece %d" % piece)
                # Another file comes and is announced while this one, long quiet, is still open.
                (host.inbox / f"other{piece}").write_text("x")
                await eventually(lambda name=f"other{piece}": ("created", name) in host.told)  # type: ignore[misc] # a default argument binds the name now
            assert ("created", "slow") not in host.told
        await eventually(lambda: ("created", "slow") in host.told)
        await host.nothing_more()
    (event,) = [event for event in host.events if event["s3"]["object"]["key"] == "slow"]
    assert event["s3"]["object"]["size"] == 35


async def test_a_writer_in_another_process_counts(host: Host) -> None:
    host.inbox.mkdir()
    script = "import sys; f = open(sys.argv[1], 'w'); f.write('a'); f.flush(); sys.stdin.read(1); f.write('b')"
    async with host.running():
        with subprocess.Popen([sys.executable, "-c", script, str(host.inbox / "f")], stdin=subprocess.PIPE) as writer:
            await eventually(lambda: (host.inbox / "f").exists() and (host.inbox / "f").stat().st_size == 1)
            (host.inbox / "other").write_text("x")
            await eventually(lambda: ("created", "other") in host.told)
            assert ("created", "f") not in host.told
            writer.communicate(b"x")
        await eventually(lambda: ("created", "f") in host.told)
    assert [event["s3"]["object"]["size"] for event in host.events] == [1, 2]


async def test_every_way_to_arrive_and_to_leave(host: Host) -> None:
    host.inbox.mkdir()
    outside = host.folder / "outside"
    async with host.running():
        (host.inbox / "written").write_text("1")
        await eventually(lambda: host.told == [("created", "written")])

        outside.write_text("2")
        outside.rename(host.inbox / "moved in")
        await eventually(lambda: host.told[1:] == [("created", "moved in")])

        (host.inbox / "moved in").rename(host.inbox / "renamed")
        await eventually(lambda: sorted(host.told[2:]) == [("created", "renamed"), ("removed", "moved in")])

        (host.inbox / "hard link").hardlink_to(host.inbox / "renamed")
        await eventually(lambda: host.told[4:] == [("created", "hard link")])

        (host.inbox / "renamed").write_text("22")  # through both names
        await eventually(lambda: sorted(host.told[5:]) == [("created", "hard link"), ("created", "renamed")])

        outside.write_text("3")
        outside.replace(host.inbox / "written")
        await eventually(lambda: host.told[7:] == [("created", "written")])

        (host.inbox / "renamed").rename(outside)
        await eventually(lambda: host.told[8:] == [("removed", "renamed")])

        (host.inbox / "written").unlink()
        await eventually(lambda: host.told[9:] == [("removed", "written")])

        (host.inbox / "written").write_text("1")
        await eventually(lambda: host.told[10:] == [("created", "written")])
        await host.nothing_more()


async def test_a_copy_that_sets_its_times_after_closing_is_announced_once(host: Host) -> None:
    host.inbox.mkdir()
    host.settings["quiet_time"] = Duration(0.1)
    original = host.folder / "original"
    original.write_text("x")
    os.utime(original, (1, 1))
    async with host.running():
        for number in range(20):
            shutil.copy2(original, host.inbox / f"{number}")
        await eventually(lambda: len(host.told) >= 20)
        await host.nothing_more()
    assert sorted(name for _, name in host.told if name != "sentinel") == sorted(f"{n}" for n in range(20))


async def test_folders_come_and_go_with_all_that_is_in_them(host: Host) -> None:
    host.inbox.mkdir()
    ready = host.folder / "ready"
    (ready / "deep").mkdir(parents=True)
    (ready / "a").write_text("a")
    (ready / "deep" / "b").write_text("b")
    async with host.running():
        (host.inbox / "first").write_text("x")
        await eventually(lambda: host.told == [("created", "first")])
        ready.rename(host.inbox / "in")
        await eventually(lambda: sorted(host.told[1:]) == [("created", "in/a"), ("created", "in/deep/b")])
        (host.inbox / "in" / "deep" / "c").write_text("c")
        await eventually(lambda: host.told[3:] == [("created", "in/deep/c")])
        (host.inbox / "in").rename(ready)
        removed = [("removed", "in/a"), ("removed", "in/deep/b"), ("removed", "in/deep/c")]
        await eventually(lambda: sorted(host.told[4:]) == removed)


async def test_touching_announces_again_and_chmod_does_not(host: Host) -> None:
    host.inbox.mkdir()
    file = host.inbox / "f"
    file.write_text("x")
    async with host.running():
        await eventually(lambda: host.told == [("created", "f")])
        file.chmod(0o600)
        await eventually(lambda: b"%d" % file.stat().st_ctime_ns in host.positions.values["f"])
        assert host.told == [("created", "f")]
        os.utime(file)
        await eventually(lambda: host.told == [("created", "f")] * 2)
    first, second = host.events
    assert first["s3"]["object"]["eTag"] == second["s3"]["object"]["eTag"]
    assert first["s3"]["object"]["sequencer"] < second["s3"]["object"]["sequencer"]


@pytest.mark.parametrize(
    "name",
    ["a b", "a+b", "100%", "grün.txt", "日本", "new\nline", 'quo"te', "-dash", "a" * 255, os.fsdecode(b"\xff\xfe")],
)
async def test_names_that_are_hard_to_spell(host: Host, name: str) -> None:
    host.inbox.mkdir()
    async with host.running():
        (host.inbox / "first").write_text("x")
        await eventually(lambda: host.told == [("created", "first")])
        (host.inbox / name).write_text("x")
        await eventually(lambda: host.told[1:] == [("created", name)])
    async with host.running():
        await host.nothing_more()
    assert host.told.count(("created", name)) == 1


async def test_ten_thousand_files_at_the_start(host: Host) -> None:
    host.inbox.mkdir()
    for number in range(10_000):
        (host.inbox / f"{number}").touch()
    async with host.running():
        await eventually(lambda: len(host.events) >= 10_000, within=60)
    assert sorted(host.told) == sorted(("created", f"{number}") for number in range(10_000))
    async with host.running():
        await host.nothing_more()


# --- what is not announced --------------------------------------------------------------------------------------------


async def test_links_pipes_ignored_names_and_the_data_folder_are_left_alone(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.settings["path"] = "."
    host.inbox = host.folder
    outside = host.folder.parent / f"{host.folder.name}-outside"
    outside.mkdir()
    (outside / "secret").write_text("x")
    async with host.running():
        (host.folder / "link").symlink_to(outside / "secret")
        (host.folder / "folder link").symlink_to(outside)
        os.mkfifo(host.folder / "pipe")
        (host.folder / "upload.part").write_text("x")
        (host.folder / ".eventfn").mkdir()
        (host.folder / ".eventfn" / "data.db").write_text("x")
        await host.nothing_more()
        (outside / "another").write_text("x")
        await host.nothing_more()
    assert {name for _, name in host.told} == {"sentinel"}
    assert "link: not announced: it is a symbolic link" in caplog.text
    shutil.rmtree(outside)


async def test_the_data_folder_is_left_alone_even_if_nothing_is_ignored(host: Host) -> None:
    host.settings |= {"path": ".", "ignore": ()}
    host.inbox = host.folder
    (host.folder / ".eventfn").mkdir()
    (host.folder / ".eventfn" / "data.db").write_text("x")
    (host.folder / ".hidden").write_text("x")
    async with host.running():
        await eventually(lambda: host.told == [("created", ".hidden")])
        (host.folder / ".eventfn" / "data.db-wal").write_text("x")
        await host.nothing_more()


async def test_a_folder_inside_the_data_folder_is_refused(host: Host) -> None:
    host.settings["path"] = ".eventfn/inbox"
    with pytest.raises(ConnectorError, match="inside eventfn's data folder"):
        await host.make().connect()


async def test_a_folder_may_itself_be_a_link(host: Host) -> None:
    real = host.folder / "real"
    real.mkdir()
    host.inbox.symlink_to(real)
    async with host.running():
        (host.inbox / "f").write_text("x")
        await eventually(lambda: host.told == [("created", "f")])


async def test_an_unreadable_file_is_reported_and_comes_when_it_can_be_read(
    host: Host, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.inbox.mkdir()
    locked = {str(host.inbox / "locked")}
    real_open = os.open

    def guarded(path: Any, *args: Any, **kwargs: Any) -> int:  # tests may run as root, whom no mode keeps out
        if path in locked:
            raise PermissionError(13, "Permission denied", path)
        return real_open(path, *args, **kwargs)

    monkeypatch.setattr(os, "open", guarded)
    async with host.running():
        (host.inbox / "locked").write_text("x")
        (host.inbox / "other").write_text("x")
        await eventually(lambda: host.told == [("created", "other")] and "locked: not announced" in caplog.text)
        locked.clear()
        (host.inbox / "locked").chmod(0o600)
        await eventually(lambda: host.told[1:] == [("created", "locked")])
    assert "Permission denied" in caplog.text


async def test_files_in_a_folder_that_cannot_be_looked_into_are_not_removed(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    (host.inbox / "sub").mkdir(parents=True)
    (host.inbox / "sub" / "f").write_text("x")
    async with host.running():
        await eventually(lambda: host.told == [("created", "sub/f")])
    real_scandir = os.scandir

    def guarded(path: Any) -> Any:
        if str(path).endswith("/sub/"):
            raise PermissionError(13, "Permission denied", path)
        return real_scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    async with host.running():
        await host.nothing_more()


async def test_removals_that_nobody_asked_for_are_remembered_all_the_same(host: Host) -> None:
    host.settings["events"] = ("ObjectCreated:*",)
    host.inbox.mkdir()
    async with host.running():
        for _ in range(2):
            (host.inbox / "f").write_text("x")
            await eventually(lambda: "f" in host.positions.values)
            (host.inbox / "f").unlink()
            await eventually(lambda: "f" not in host.positions.values)
    assert host.told == [("created", "f")] * 2


async def test_creations_that_nobody_asked_for_are_remembered_for_their_removal(host: Host) -> None:
    host.settings["events"] = ("ObjectRemoved:*",)
    host.inbox.mkdir()
    (host.inbox / "f").write_text("x")
    async with host.running():
        await eventually(lambda: "f" in host.positions.values)
        (host.inbox / "f").unlink()
        await eventually(lambda: host.told == [("removed", "f")])


# --- while it was down, and when it dies ------------------------------------------------------------------------------


async def test_what_happened_while_it_was_down_is_announced_once(host: Host) -> None:
    host.inbox.mkdir()
    for name in ("stays", "goes", "changes"):
        (host.inbox / name).write_text("x")
    async with host.running():
        await eventually(lambda: len(host.told) == 3)
    (host.inbox / "goes").unlink()
    (host.inbox / "changes").write_text("xx")
    (host.inbox / "comes").write_text("x")
    expected = [("created", "changes"), ("created", "comes"), ("removed", "goes")]
    async with host.running():
        await eventually(lambda: sorted(host.told[3:]) == expected)
        await host.nothing_more()
    async with host.running():
        await host.nothing_more()


@pytest.mark.parametrize("dies_after", ["read", "accept", "settle"])
async def test_a_host_that_dies_repeats_and_loses_nothing(host: Host, dies_after: str) -> None:
    def told_of(kind: str) -> set[str]:
        return {name for told, name in host.told if told == kind}

    host.inbox.mkdir()
    for number in range(4):
        (host.inbox / f"{number}").write_text("x")
        if number:
            (host.inbox / f"{number - 1}").unlink()
        trigger = host.make()
        await trigger.connect()
        batch = await trigger.read(1)
        if dies_after != "read":
            await host.accept(batch)
        if dies_after == "settle":
            await trigger.settle(batch, [DONE])
        await trigger.close(0)
    async with host.running():
        # Of what came and went between two looks nothing is told: neither that it came nor that it went.
        await eventually(lambda: told_of("removed") == told_of("created") - {"3"} and "3" in told_of("created"))
        await host.nothing_more()
    assert len(set(host.told)) == len(host.told)


async def test_a_file_rewritten_while_its_event_is_on_its_way_is_announced_again(host: Host) -> None:
    host.inbox.mkdir()
    (host.inbox / "f").write_text("one")
    trigger = host.make()
    await trigger.connect()
    first = await trigger.read(10)
    (host.inbox / "f").write_text("three")
    await host.accept(first)
    await trigger.settle(first, [DONE])
    second = await trigger.read(10)
    await host.accept(second)
    await trigger.settle(second, [DONE])
    await trigger.close(1)
    assert [event["s3"]["object"]["size"] for event in host.events] == [3, 5]


async def test_what_the_host_cannot_take_comes_again_and_what_it_gives_up_does_not(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    host.inbox.mkdir()
    (host.inbox / "f").write_text("x")
    trigger = host.make()
    await trigger.connect()
    first = await trigger.read(10)
    await trigger.settle(first, [Retry(after=0.05)])
    again = await trigger.read(10)
    assert [record.id for record in again.records] == [record.id for record in first.records]
    await trigger.settle(again, [Reject("no room")])
    await trigger.close(1)
    assert "f: the host gave up its event: no room" in caplog.text
    async with host.running():
        await host.nothing_more()


async def test_reads_that_are_cancelled_at_any_moment_take_nothing(host: Host) -> None:
    host.inbox.mkdir()
    for number in range(30):
        (host.inbox / f"{number}").write_text("x")
    trigger = host.make()
    await trigger.connect()
    for turns in range(60):
        reading = asyncio.ensure_future(trigger.read(5))
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            batch = await reading
            await host.accept(batch)
            await trigger.settle(batch, [DONE] * len(batch.records))
    while len(host.told) < 30:
        batch = await trigger.read(5)
        await host.accept(batch)
        await trigger.settle(batch, [DONE] * len(batch.records))
    await trigger.close(1)
    assert len(set(host.told)) == len(host.told) == 30


async def test_a_folder_that_is_gone_removes_nothing_and_is_waited_for(host: Host) -> None:
    host.inbox.mkdir()
    (host.inbox / "f").write_text("x")
    trigger = host.make()
    serving = asyncio.ensure_future(host.serve(trigger))
    await eventually(lambda: host.told == [("created", "f")])
    await eventually(lambda: "f" in host.positions.values)
    host.inbox.rename(host.folder / "unmounted")
    with pytest.raises(ConnectorError, match="cannot be read"):
        await serving
    with pytest.raises(ConnectorError, match="is gone, and files in it were announced"):
        await trigger.connect()
    (host.folder / "unmounted").rename(host.inbox)
    await trigger.close(1)
    async with host.running():
        await host.nothing_more()
    assert host.told[0] == ("created", "f")


async def test_a_file_where_the_folder_should_be_is_an_error(host: Host) -> None:
    host.inbox.write_text("x")
    with pytest.raises(ConnectorError, match="is not a folder"):
        await host.make().connect()


# --- the watcher is only a hint ---------------------------------------------------------------------------------------


async def test_without_the_watcher_a_rescan_finds_everything(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """An overflow of the kernel's queue, a network file system: nothing was reported."""

    def silent(*args: Any, stop_event: Any, **kwargs: Any) -> Any:
        while not stop_event.is_set():
            threading.Event().wait(0.01)
        yield from ()

    monkeypatch.setattr(watchfiles, "watch", silent)
    host.clock = FakeClock()
    host.inbox.mkdir()
    (host.inbox / "old").write_text("x")
    async with host.running():

        async def until_told(count: int, within: float) -> None:
            """As the fake minute goes by, a second at a time."""
            started = host.clock.monotonic()
            while len(host.told) < count:
                assert host.clock.monotonic() - started <= within
                await host.clock.advance(1)
                await asyncio.sleep(0.01)

        await until_told(1, within=30)
        (host.inbox / "old").unlink()
        (host.inbox / "new").write_text("x")
        await until_told(3, within=90)
    assert sorted(host.told[1:]) == [("created", "new"), ("removed", "old")]


async def test_a_watcher_that_breaks_is_made_again(
    host: Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(eventfn_files.trigger, "WATCH_AGAIN", 0.05)
    real_watch, calls = watchfiles.watch, 0

    def breaking(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError(28, "OS file watch limit reached")
        return real_watch(*args, **kwargs)

    monkeypatch.setattr(watchfiles, "watch", breaking)
    host.inbox.mkdir()
    async with host.running():
        await eventually(lambda: calls == 2)
        await host.nothing_more()
    assert "the watcher broke and is made again" in caplog.text


async def test_more_hints_than_are_held_lead_to_a_rescan(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventfn_files.trigger, "MOST_HINTS", 10)
    host.inbox.mkdir()
    async with host.running():
        (host.inbox / "first").write_text("x")
        await eventually(lambda: host.told == [("created", "first")])
        for number in range(200):
            (host.inbox / f"{number}").write_text("x")
        await eventually(lambda: len(host.told) == 201)


async def test_where_leases_are_not_granted_two_quiet_seconds_decide(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's file, NFS: nobody can say who writes."""
    monkeypatch.setattr("eventfn_files.folder._has_writers", lambda file: None)
    host.clock = FakeClock()
    host.inbox.mkdir()
    async with host.running():
        with (host.inbox / "slow").open("wb", buffering=0) as file:
            for _ in range(6):
                file.write(b"x")
                os.utime(file.fileno(), ns=(0, file.tell()))  # a new time even if the kernel's clock is coarse
                for _ in range(10):
                    await host.clock.advance(0.1)
                    await asyncio.sleep(0.01)
                assert host.told == []
        for _ in range(300):
            await host.clock.advance(0.1)
            await asyncio.sleep(0.01)
            if host.told:
                break
    assert host.told == [("created", "slow")]


async def test_closing_leaves_no_thread_and_works_twice(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    trigger = host.make()
    await trigger.close(1)
    await trigger.connect()
    (host.inbox / "f").write_text("x")
    await trigger.read(1)
    assert _watching()
    await trigger.close(1)
    await trigger.close(1)
    assert not _watching()
    assert caplog.records == []


async def test_a_program_that_forgets_to_close_it_ends_all_the_same(host: Host) -> None:
    script = """
import asyncio, pathlib, sys
from eventfn_files import FilesTrigger
from eventfn.clock import SystemClock
from eventfn.testing.contexts import trigger_context

async def main():
    context = trigger_context(pathlib.Path(sys.argv[1]), clock=SystemClock())
    trigger = FilesTrigger(FilesTrigger.Settings(path="inbox"), None, context)
    await trigger.connect()
    print(len((await trigger.read(1)).records))

asyncio.run(main())
"""
    host.inbox.mkdir()
    (host.inbox / "f").write_text("x")
    command = [sys.executable, "-c", script, str(host.folder)]
    ended = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"1\n", b"")


def _watching() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("eventfn-files-watch")]
