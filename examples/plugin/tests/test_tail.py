from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from eventfn_tail import TailTrigger
from eventfn_tail.logfile import LONGEST_LINE, LogFile, Place
from eventfn_tail.trigger import TailSettings

from eventfn.event import Record
from eventfn.testing import TriggerSuite


class TestTailTrigger(TriggerSuite):
    trigger = TailTrigger
    name = "tail"
    outside = True  # another process can read the file, too: the suite starts one, and kills it
    nonsense = ({}, {"path": "app.log", "start": "middle"}, {"path": "app.log", "poll": "1ms"})

    @pytest.fixture(autouse=True)
    def _log(self, host: None) -> None:
        self.path = self.folder / "app.log"
        self.path.touch()

    def settings(self) -> TailSettings:
        return TailSettings(path="app.log", start="beginning")

    async def elsewhere(self) -> TailSettings:
        (self.folder / "other.log").touch()
        return TailSettings(path="other.log")

    async def put(self, number: int) -> None:
        with self.path.open("a") as log:
            log.write(f"line {number}\n")

    def number(self, record: Record) -> int:
        return int(msgspec.json.decode(record.payload)["line"].removeprefix("line "))

    async def refuse(self) -> None:
        self.path.rename(self.folder / "elsewhere")

    async def accept(self) -> None:
        (self.folder / "elsewhere").rename(self.path)

    async def test_lines_of_before_the_first_start_are_left_out_unless_asked_for(self) -> None:
        await self.put(1)
        at_the_end = TailTrigger(TailSettings(path="app.log"), None, self.context)
        await at_the_end.connect()
        assert (await self.next_new(at_the_end, 2)).id.endswith("-7")
        await at_the_end.close(1)

        self.positions.values.clear()
        assert [self.number(record) for record in await self.finish(await self.opened(), 2)] == [1, 2]

    async def test_a_rotated_file_is_read_to_its_end_first(self) -> None:
        trigger = await self.opened()
        await self.put(1)
        self.path.rename(self.folder / "app.log.1")
        with (self.folder / "app.log.1").open("a") as moved:
            moved.write("line 2\nline 3")  # the writer had it open still, and ended without a line break
        await self.put(4)
        assert [self.number(record) for record in await self.finish(trigger, 4)] == [1, 2, 3, 4]

    async def test_a_file_that_was_rotated_while_nobody_listened_is_read_on(self) -> None:
        trigger = await self.opened()
        await self.next_new(trigger, 1)
        await trigger.close(1)
        await self.put(2)
        self.path.rename(self.folder / "app.log.1")
        await self.put(3)
        assert [self.number(record) for record in await self.finish(await self.opened(), 2)] == [2, 3]

    async def test_a_file_that_was_cut_back_is_read_from_its_start(self) -> None:
        trigger = await self.opened()
        await self.put(100)
        await self.finish(trigger, 1)
        self.path.write_text("")
        assert self.number(await self.next_new(trigger, 2)) == 2


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


def test_half_a_line_waits_for_its_other_half(path: Path) -> None:
    path.write_bytes(b"one\ntw")
    log = LogFile(path)
    log.open_at(Place(0, 0))
    texts = [line and line.text for line in (log.next_line(), log.next_line())]
    with path.open("ab") as writer:
        writer.write(b"o\r\n")
    last = log.next_line()
    log.close()
    assert texts == ["one", None]
    assert last is not None
    assert last.text == "two"


def test_a_line_without_end_comes_in_pieces(path: Path) -> None:
    path.write_bytes(b"x" * (LONGEST_LINE + 5) + b"\n")
    log = LogFile(path)
    log.open_at(Place(0, 0))
    pieces = [line and len(line.text) for line in (log.next_line(), log.next_line(), log.next_line())]
    log.close()
    assert pieces == [LONGEST_LINE, 5, None]
