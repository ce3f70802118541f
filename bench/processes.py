"""What /proc says of the processes of a node."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

_QUIET = 0.5  # seconds without a tick of CPU


def children(pid: int) -> list[int]:
    """Oldest first."""
    listed = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return sorted(listed, key=lambda child: (int(_stat(child)[19]), child))  # starttime; the pid for those of one tick


def pss_mb(pid: int) -> float:
    """What a process shares is divided among those who share it."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/{pid}/smaps_rollup has no Pss")


def family(pid: int) -> list[int]:
    """It, its children, and theirs."""
    return [pid, *(each for child in children(pid) for each in family(child))]


async def quiet(pid: int) -> None:
    """Once nothing of the node has computed for a while: what it began at its start is done."""
    before = -1
    while (now := sum(_ticks(pid))) != before:
        before = now
        await asyncio.sleep(_QUIET)


def _ticks(pid: int) -> Iterator[int]:
    for each in family(pid):
        with contextlib.suppress(FileNotFoundError):  # it has ended since
            stat = _stat(each)
            yield int(stat[11]) + int(stat[12])  # utime and stime


def _stat(pid: int) -> list[str]:
    """Fields of proc(5) from the third one on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
