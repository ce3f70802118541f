"""The variable of the trace, as Python, C and other programs see it."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventfn.workers.child.trace import NAME, Trace

_getenv = ctypes.PyDLL(None).getenv
_getenv.restype = ctypes.c_char_p


@pytest.fixture
def trace() -> Iterator[Trace]:
    yield (trace := Trace())
    trace.set("")


def seen() -> tuple[str | None, str, bytes | None]:
    """By Python, by a program that it starts, by a library."""
    said = subprocess.run(["printenv", NAME], stdout=subprocess.PIPE, check=False).stdout.decode()
    return os.environ.get(NAME), said.rstrip("\n"), _getenv(NAME.encode())


LONG = "Root=1-" + "b" * 5000


def test_everybody_sees_the_latest(trace: Trace) -> None:
    for text in ("Root=1-a", "Root=1-a", "Root=1-long;Parent=c", "Root=1-b", LONG, "Root=1-é", "Root=1-b"):
        trace.set(text)
        assert seen() == (text, text, text.encode())
    trace.set("")
    assert seen() == (None, "", None)
    trace.set("Root=1-d")
    assert seen() == ("Root=1-d", "Root=1-d", b"Root=1-d")


@pytest.mark.parametrize("replaced", [None, "my own", "Root=1-a"])
def test_what_a_function_does_to_it_lasts_until_its_next_request(trace: Trace, replaced: str | None) -> None:
    trace.set("Root=1-a")
    if replaced is None:
        del os.environ[NAME]
    else:
        os.environ[NAME] = replaced
    assert seen() == (replaced, replaced or "", None if replaced is None else replaced.encode())
    trace.set("Root=1-b")
    assert seen() == ("Root=1-b", "Root=1-b", b"Root=1-b")


def test_a_trace_for_each_of_many_requests_takes_no_memory(trace: Trace) -> None:
    def resident_kb() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024

    trace.set("Root=1-a")
    before = resident_kb()
    for number in range(100_000):  # 14 MB, if libc is told each
        trace.set(f"Root=1-67891234-{number:024x};Parent=53995c3f42cd8ad8;Sampled=0")
    assert resident_kb() - before < 2000
