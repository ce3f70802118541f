"""The log store against real files: written, read, rotated, followed, bounded; a full disk loses lines and no more."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eventfn.observe import logs
from eventfn.observe.logs import Follower, Line, LogStore, Tail, append, read
from eventfn.testing import FakeClock
from eventfn.testing.waiting import eventually


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LogStore]:
    store = LogStore(tmp_path, FakeClock())
    store.open()
    yield store
    await store.close()


def messages(folder: Path, function: str = "f") -> list[str]:
    return [line.message for line in read(folder, function)]


# --- writing ----------------------------------------------------------------------------------------------------------


async def test_lines_are_json_objects_in_the_order_written(store: LogStore, tmp_path: Path) -> None:
    store.write("f", "2026/11/21/[$LATEST]abc", 1, "START RequestId: 1 Version: $LATEST")
    store.write("f", "2026/11/21/[$LATEST]abc", 2, 'two\nlines, "quoted" and é')
    await store.close()
    lines = [json.loads(line) for line in (tmp_path / "f.log").read_text().splitlines()]
    assert lines == [
        {"timestamp": 1, "stream": "2026/11/21/[$LATEST]abc", "message": "START RequestId: 1 Version: $LATEST"},
        {"timestamp": 2, "stream": "2026/11/21/[$LATEST]abc", "message": 'two\nlines, "quoted" and é'},
    ]


async def test_a_line_reaches_the_disk_while_the_node_runs(store: LogStore, tmp_path: Path) -> None:
    store.write("f", "s", 1, "hello")
    await eventually(lambda: messages(tmp_path) == ["hello"])


async def test_each_function_has_a_file_that_only_its_owner_reads(store: LogStore, tmp_path: Path) -> None:
    store.write("a", "s", 1, "of a")
    store.write("b", "s", 2, "of b")
    await store.close()
    assert logs.functions(tmp_path) == ["a", "b"]
    assert messages(tmp_path, "a") == ["of a"]
    assert messages(tmp_path, "b") == ["of b"]
    assert (tmp_path / "a.log").stat().st_mode & 0o777 == 0o600


async def test_bytes_that_were_no_text_are_replaced_and_not_lost(store: LogStore, tmp_path: Path) -> None:
    store.write("f", "s", 1, b"caf\xe9".decode(errors="surrogateescape"))
    await store.close()
    assert messages(tmp_path) == ["caf?"]


async def test_closing_twice_or_without_opening_is_harmless(tmp_path: Path) -> None:
    await LogStore(tmp_path, FakeClock()).close()
    store = LogStore(tmp_path, FakeClock())
    store.open()
    await store.close()
    await store.close()


async def test_a_flood_is_bounded_counted_and_told_in_the_file(tmp_path: Path) -> None:
    # The writer is not started yet: the slowest disk there is.
    size = len(logs.encode([Line(10_000, "s", "x" * 100)]))
    store = LogStore(tmp_path, FakeClock(), buffer_size=100_000)
    for number in range(10_000, 20_000):
        store.write("flood", "s", number, "x" * 100)
    store.write("quiet", "s", 1, "heard")
    dropped = store.dropped("flood")
    assert dropped == 10_000 - 100_000 // size
    assert store.dropped("quiet") == 0
    store.open()
    await store.close()
    found = messages(tmp_path, "flood")
    assert len(found) == 10_000 - dropped + 1
    assert found[-1].startswith(f"eventfn: {dropped} log lines of this function were dropped here")
    assert messages(tmp_path, "quiet") == ["heard"]


async def test_writers_on_many_threads_lose_nothing(store: LogStore, tmp_path: Path) -> None:
    def work(name: str) -> None:
        for number in range(500):
            store.write("f", name, number, f"{name} {number}")

    threads = [threading.Thread(target=work, args=(f"t{index}",)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    await store.close()
    by_stream: dict[str, list[int]] = {}
    for line in read(tmp_path, "f"):
        by_stream.setdefault(line.stream, []).append(line.timestamp)
    assert by_stream == {f"t{index}": list(range(500)) for index in range(4)}


# --- a full disk ------------------------------------------------------------------------------------------------------

FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from eventfn.clock import SystemClock
from eventfn.observe.logs import LogStore

async def main(folder: Path) -> None:
    store = LogStore(folder, SystemClock())
    store.open()
    store.write("f", "s", 1, "before")
    while not (folder / "f.log").exists() or not (folder / "f.log").stat().st_size:
        await asyncio.sleep(0.005)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, resource.RLIM_INFINITY))
    for number in range(20):
        store.write("f", "s", 2, "lost " + "x" * 100)
    while store.dropped("f") < 20:
        await asyncio.sleep(0.005)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.write("f", "s", 3, "after")
    await store.close()
    print(store.dropped("f"))

asyncio.run(main(Path(sys.argv[1])))
"""


def test_a_full_disk_loses_whole_lines_and_says_how_many(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "20", done.stderr
    assert "log lines of f are being lost" in done.stderr
    found = messages(tmp_path)
    assert found[:2] == ["before", "after"]
    assert found[2].startswith("eventfn: 20 log lines of this function were dropped here: File too large")
    assert len(found) == 3


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "f.log"
    append(path, b'{"timestamp":1,"stream":"s","message":"kept"}\n', 10_000, 5)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            append(path, b"0123456789" * 10 + b"\n", 10_000, 5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before


def test_the_torn_line_of_a_killed_node_swallows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "f.log"
    path.write_bytes(b'{"timestamp":1,"stream":"s","message":"one"}\n{"timestamp":2,"str')
    append(path, b'{"timestamp":3,"stream":"s","message":"three"}\n', 10_000, 5)
    assert messages(tmp_path) == ["one", "three"]


def test_a_link_in_place_of_a_log_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "f.log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        append(tmp_path / "f.log", b"x\n", 10_000, 5)
    assert not (tmp_path / "elsewhere").exists()


# --- rotation and reading ---------------------------------------------------------------------------------------------


def entry(number: int) -> bytes:
    return logs.encode([Line(number, "s", f"line {number}")])


def test_files_are_rotated_by_size_and_the_oldest_goes(tmp_path: Path) -> None:
    for number in range(100):
        append(tmp_path / "f.log", entry(number), 300, 3)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["f.log", "f.log.1", "f.log.2"]
    assert all(path.stat().st_size <= 300 for path in tmp_path.iterdir())
    numbers = [line.timestamp for line in read(tmp_path, "f")]
    assert numbers == list(range(numbers[0], 100))
    assert len(numbers) > 10


def test_since_leaves_out_what_is_older(tmp_path: Path) -> None:
    for number in range(10):
        append(tmp_path / "f.log", entry(number), 10_000, 3)
    assert [line.timestamp for line in read(tmp_path, "f", since_ms=7)] == [7, 8, 9]


def test_all_functions_are_merged_by_time(tmp_path: Path) -> None:
    for number in (1, 4):
        append(tmp_path / "a.log", entry(number), 10_000, 3)
    for number in (2, 3):
        append(tmp_path / "b.log", entry(number), 10_000, 3)
    assert [(line.function, line.timestamp) for line in read(tmp_path)] == [("a", 1), ("b", 2), ("b", 3), ("a", 4)]


def test_nothing_to_read_is_no_error(tmp_path: Path) -> None:
    assert list(read(tmp_path, "f")) == []
    assert list(read(tmp_path / "absent")) == []


def test_a_line_being_written_is_read_once_it_is_whole(tmp_path: Path) -> None:
    tail = Tail(tmp_path, "f")
    raw = entry(1)
    with (tmp_path / "f.log").open("wb", buffering=0) as file:
        file.write(raw[:10])
        assert list(tail.poll()) == []
        file.write(raw[10:])
        assert [line.timestamp for line in tail.poll()] == [1]
    assert list(tail.poll()) == []
    tail.close()


def test_a_follower_sees_functions_that_log_for_the_first_time(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    assert list(follower.poll()) == []
    append(tmp_path / "new.log", entry(1), 10_000, 3)
    assert [line.function for line in follower.poll()] == ["new"]
    follower.close()


def test_a_log_emptied_by_hand_is_read_on(tmp_path: Path) -> None:
    tail = Tail(tmp_path, "f")
    append(tmp_path / "f.log", entry(1) + entry(2), 10_000, 3)
    assert len(list(tail.poll())) == 2
    os_truncate(tmp_path / "f.log")
    assert list(tail.poll()) == []
    append(tmp_path / "f.log", entry(3), 10_000, 3)
    assert [line.timestamp for line in tail.poll()] == [3]
    tail.close()


def os_truncate(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate()


@given(st.lists(st.one_of(st.just("poll"), st.integers(1, 4)), max_size=40))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_following_across_rotations_shows_each_line_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str | int]
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    tail, seen, written = Tail(folder, "f"), list[int](), 0
    unread = 0
    for step in steps:
        if step == "poll" or unread > 8:  # more than the files hold would rightly be lost
            seen += [line.timestamp for line in tail.poll()]
            unread = 0
        if isinstance(step, int):
            for _ in range(step):
                append(folder / "f.log", entry(written), 110, 8)
                written, unread = written + 1, unread + 1
    seen += [line.timestamp for line in tail.poll()]
    tail.close()
    assert seen == list(range(written))
