from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import pytest

from tests.support import until

_PR_SET_CHILD_SUBREAPER = 36


class Orphans:
    """The processes whose parent died: they become children of this one, so that none is overlooked."""

    def __init__(self) -> None:
        self._before = _children()

    async def gone(self) -> None:
        """Once no process is left that a node has started; all nodes have ended before."""
        await until(lambda: not self._left(), "every process of the nodes has ended", 10)

    def _left(self) -> set[int]:
        left: set[int] = set()
        for pid in _children() - self._before:
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                left.add(pid)
        return left


@pytest.fixture
def orphans() -> Iterator[Orphans]:
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 1) == 0
    yield Orphans()
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 0) == 0


def _children() -> set[int]:
    return set(children_of(os.getpid()))


def children_of(parent: int) -> list[int]:
    found: list[int] = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as file:
                    facts = file.read()
            except (FileNotFoundError, ProcessLookupError):
                continue
            # The name in parentheses may hold anything; behind it come the state and the parent.
            if int(facts.rpartition(b")")[2].split()[1]) == parent:
                found.append(int(entry))
    return found
