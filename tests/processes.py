"""The machine's processes, seen from outside of every sandbox: whose they are, what they are called, whether they run.

A function knows none of these numbers: inside, its handler has a number of its own pid namespace.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from tests.support import until

_PR_SET_CHILD_SUBREAPER = 36

_GONE = (FileNotFoundError, ProcessLookupError)
_STATE, _PARENT, _START = 0, 1, 19  # of what /proc/PID/stat says behind the name


def _stat(pid: int) -> list[str] | None:
    with contextlib.suppress(*_GONE):
        # The name in parentheses may hold anything.
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode().split()
    return None


def _read(pid: int, name: str) -> bytes:
    with contextlib.suppress(*_GONE):
        return Path(f"/proc/{pid}/{name}").read_bytes()
    return b""


def alive(pid: int) -> bool:
    """Whether the process runs: a zombie does not."""
    stat = _stat(pid)
    return stat is not None and stat[_STATE] not in "ZX"


def state_of(pid: int) -> str:
    """One letter, as ps shows it: "T" for a stopped process; empty when it is gone."""
    stat = _stat(pid)
    return "" if stat is None else stat[_STATE]


def parent_of(pid: int) -> int:
    stat = _stat(pid)
    assert stat is not None, f"process {pid} is gone"
    return int(stat[_PARENT])


def start_of(pid: int) -> int:
    """When, in ticks since the machine's start."""
    stat = _stat(pid)
    assert stat is not None, f"process {pid} is gone"
    return int(stat[_START])


def name_of(pid: int) -> str:
    """As ps shows it: "fn:" and the function's name for a handler, "fn:init" for the first of its sandbox."""
    return _read(pid, "comm").decode().rstrip("\n")


def described(pid: int) -> str:
    """For a failure's message: what it is called, its state, and where in the kernel it is."""
    waits = _read(pid, "wchan").decode() or "?"
    return (
        f"{name_of(pid)} {state_of(pid)} in {waits}, group {os.getpgid(pid)}, threads {os.listdir(f'/proc/{pid}/task')}"
    )


def children_of(parent: int) -> set[int]:
    """Zombies included."""
    found = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            stat = _stat(int(entry))
            if stat is not None and int(stat[_PARENT]) == parent:
                found.add(int(entry))
    return found


def descendants_of(ancestor: int) -> set[int]:
    """Its children, theirs, and so on; zombies included. Of an init, all of its sandbox."""
    below: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            stat = _stat(int(entry))
            if stat is not None:
                below.setdefault(int(stat[_PARENT]), []).append(int(entry))
    found: set[int] = set()
    ahead = [ancestor]
    while ahead:
        children = below.get(ahead.pop(), [])
        found.update(children)
        ahead += children
    return found


def handlers(supervisor: int, function: str) -> set[int]:
    """The processes that run this function's handler, each of them in an environment of its own."""
    named = {pid for pid in descendants_of(supervisor) if name_of(pid) == f"fn:{function}"[:15] and alive(pid)}
    return {pid for pid in named if _stat(pid) is not None and parent_of(pid) not in named}  # forks keep the name


def zygote(supervisor: int) -> int:
    """Its oldest child that runs the zygote's program: what is cloned of that one does so too."""
    started = {}
    for pid in children_of(supervisor):
        stat = _stat(pid)
        if b"child/zygote.py" in _read(pid, "cmdline") and not name_of(pid).startswith("fn:") and stat is not None:
            started[int(stat[_START]), pid] = pid
    return started[min(started)]


class Orphans:
    """The processes whose parent died: they become children of this one, so that none is overlooked."""

    def __init__(self) -> None:
        self._before = children_of(os.getpid())

    async def gone(self) -> None:
        """Once no process is left that a node has started; all nodes have ended before."""
        await until(lambda: not self._left(), "every process of the nodes has ended")

    def _left(self) -> set[int]:
        return {pid for pid in children_of(os.getpid()) - self._before if os.waitpid(pid, os.WNOHANG)[0] == 0}


@contextlib.contextmanager
def adopted() -> Iterator[Orphans]:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 1) == 0
    try:
        yield Orphans()
    finally:
        assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 0) == 0
