from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventfn.destination import WRITTEN, OutgoingRecord, RetryAfter
from eventfn.errors import ConnectorError
from eventfn.testing import DestinationSuite, destination_context
from eventfn_file import FileDestination
from eventfn_file.append import append
from eventfn_file.destination import FileSettings


class TestFileDestination(DestinationSuite):
    destination = FileDestination
    scheme = "file"
    target = "out/deep/orders.jsonl"
    nonsense = ("", "out/", "//host/orders.jsonl", "a\0b")

    async def received(self) -> list[Any]:
        path = self.folder / self.target
        text = path.read_bytes() if path.exists() else b""
        assert not text or text.endswith(b"\n")
        return [msgspec.json.decode(line) for line in text.splitlines()]

    async def refuse(self) -> None:
        # A file where the folder should be, which stops root too.
        if (self.folder / "out").exists():
            (self.folder / "out").rename(self.folder / "away")
        (self.folder / "out").write_text("in the way")

    async def accept(self) -> None:
        (self.folder / "out").unlink()
        if (self.folder / "away").exists():
            (self.folder / "away").rename(self.folder / "out")


def record(number: int, attempt: int = 1, payload: bytes | None = None, shape: str = "record") -> OutgoingRecord:
    body = payload if payload is not None else msgspec.json.encode({"requestContext": {"requestId": f"r-{number}"}})
    return OutgoingRecord(
        id=f"r-{number}-on-success", payload=body, attributes={"eventfn.shape": shape}, attempt=attempt
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "orders.jsonl"


@pytest.fixture
def destination(path: Path) -> FileDestination:
    return FileDestination(path.name, FileSettings(), destination_context(path.parent))


async def test_an_absolute_path_is_absolute(tmp_path: Path, path: Path) -> None:
    for target in (str(path), f"//{path}"):
        context = destination_context(tmp_path / "elsewhere")
        await FileDestination(target, FileSettings(), context).write([record(1)])
    assert len(path.read_bytes().splitlines()) == 2
    assert not (tmp_path / "elsewhere").exists()


async def test_an_event_on_many_lines_becomes_one_line(path: Path, destination: FileDestination) -> None:
    event = b'{\n  "text": "a\\nb",\r\n  "number": 1\n}'
    await destination.write([record(1, payload=event)])
    (line,) = path.read_bytes().splitlines()
    assert msgspec.json.decode(line) == {"text": "a\nb", "number": 1}


async def test_a_torn_line_is_set_aside_at_the_next_start(path: Path, destination: FileDestination) -> None:
    path.write_bytes(b'{"whole": 1}\n{"torn": "ha')
    await destination.connect()
    assert path.read_bytes() == b'{"whole": 1}\n'
    assert Path(f"{path}.torn").read_bytes() == b'{"torn": "ha\n'
    await destination.write([record(1)])
    assert msgspec.json.decode(path.read_bytes().splitlines()[0]) == {"whole": 1}


async def test_a_line_that_only_lacks_its_end_is_ended(path: Path, destination: FileDestination) -> None:
    path.write_bytes(b'{"whole": 1}\n{"whole": 2}')
    await destination.connect()
    assert path.read_bytes() == b'{"whole": 1}\n{"whole": 2}\n'
    assert not Path(f"{path}.torn").exists()


async def test_a_file_that_was_moved_away_is_made_again(path: Path, destination: FileDestination) -> None:
    await destination.connect()
    await destination.write([record(1)])
    path.rename(path.with_suffix(".1"))
    await destination.write([record(2)])
    assert b"r-1" in path.with_suffix(".1").read_bytes()
    assert path.read_bytes() == record(2).payload + b"\n"


async def test_a_record_that_was_written_before_the_crash_is_not_written_again(
    path: Path, destination: FileDestination
) -> None:
    await destination.write([record(1), record(2)])
    assert await destination.write([record(2, attempt=2), record(3, attempt=2)]) == [WRITTEN] * 2
    assert path.read_bytes().splitlines() == [record(number).payload for number in (1, 2, 3)]


async def test_equal_plain_events_are_two_events(path: Path, destination: FileDestination) -> None:
    event = b'{"order": 7}'
    await destination.write([record(1, payload=event, shape="event")])
    await destination.write([record(2, payload=event, shape="event", attempt=2)])
    assert path.read_bytes().splitlines() == [event, event]


async def test_a_batch_that_does_not_fit_is_taken_back(path: Path, destination: FileDestination) -> None:
    await destination.write([record(1)])
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel itself cuts the write short in the middle of the second line, as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) * 2 + 5, limits[1]))
    try:
        answers = await destination.write([record(2), record(3)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert answers == [RetryAfter(f"cannot write to {path}: File too large")] * 2
    assert path.read_bytes() == before
    assert await destination.write([record(2), record(3)]) == [WRITTEN] * 2
    assert len(path.read_bytes().splitlines()) == 3


async def test_a_folder_in_the_place_of_the_file_is_named(path: Path, destination: FileDestination) -> None:
    path.mkdir()
    with pytest.raises(ConnectorError, match=f"cannot write to {path}: Is a directory"):
        await destination.connect()


async def test_a_device_is_refused(tmp_path: Path) -> None:
    destination = FileDestination("/dev/null", FileSettings(), destination_context(tmp_path))
    with pytest.raises(ConnectorError, match="is not a regular file"):
        await destination.connect()


async def test_a_file_that_another_process_holds_is_tried_again_later(path: Path, destination: FileDestination) -> None:
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        (answer,) = await destination.write([record(1)])
        assert answer == RetryAfter(f"another process is writing to {path}")
    assert await destination.write([record(1)]) == [WRITTEN]


WRITER = r"""
import sys
from pathlib import Path
from eventfn_file.append import FileInUse, append
path, name = Path(sys.argv[1]), sys.argv[2]
print("ready", flush=True)
number = 0
while True:
    text = f"\"writer\": \"{name}\", \"text\": \"{3000 * chr(120)}\""
    lines = [b"{%s, \"number\": %d}" % (text.encode(), number + n) for n in range(20)]
    try:
        append(path, lines)
    except FileInUse:
        continue
    number += 20
    print(number, flush=True)
"""


def test_no_line_is_torn_or_lost_when_writers_are_killed(path: Path) -> None:
    promised: dict[str, int] = {}
    for turn in range(6):
        names = [f"{turn}-a", f"{turn}-b"]
        writers = [
            subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], stdout=subprocess.PIPE, text=True)
            for name in names
        ]
        told: dict[str, list[str]] = {}
        for name, writer in zip(names, writers, strict=True):
            assert writer.stdout is not None
            told[name] = [writer.stdout.readline() for _ in range(3 + turn)]
        for name, writer in zip(names, writers, strict=True):
            writer.send_signal(signal.SIGKILL)
            told[name] += writer.communicate()[0].split()
            # The last word may have been cut off by the kill, so the greatest that is whole counts.
            promised[name] = max(int(word) for word in told[name] if word.strip().isdigit())
    append(path, [])
    seen = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    for name, count in promised.items():
        numbers = [line["number"] for line in seen if line["writer"] == name]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) >= count


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(min_value=0, max_value=200), lines=st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_wherever_the_file_was_cut_all_its_lines_are_json_after_mending(
    tmp_path_factory: pytest.TempPathFactory, cut: int, lines: list[int]
) -> None:
    path = tmp_path_factory.mktemp("cut") / "f.jsonl"
    append(path, [b'{"n": %d, "text": "\xc3\xa9"}' % number for number in lines])
    size = path.stat().st_size
    os.truncate(path, min(cut, size))
    append(path, [b'{"n": 10}'])
    decoded = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    assert decoded[-1] == {"n": 10}
    assert [line["n"] for line in decoded[:-1]] == lines[: len(decoded) - 1]


async def test_a_cancelled_write_leaves_whole_lines(path: Path, destination: FileDestination) -> None:
    writing = asyncio.ensure_future(destination.write([record(number) for number in range(100)]))
    await asyncio.sleep(0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    await destination.close(1)
    answers = await destination.write([record(100)])
    while answers != [WRITTEN]:  # the thread of the cancelled write may still hold the file
        answers = await destination.write([record(100)])
    lines = path.read_bytes().splitlines()
    assert len(lines) in (1, 101)
    assert lines[-1] == record(100).payload
