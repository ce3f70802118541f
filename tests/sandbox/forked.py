"""What happens behind a wall: work done in a fork, which puts it up, and what it says or dies of."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import traceback
from collections.abc import Callable
from typing import Any

from eventfn.sandbox import privileges, syscalls

libc = ctypes.CDLL(None, use_errno=True)


class Died(Exception):
    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(f"the fork died of {self.signal.name}")


def in_fork(work: Callable[[], object]) -> Any:
    """What `work` returns, which JSON can hold. Died if a signal ended it; AssertionError with its traceback."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            report = json.dumps({"returned": work()})
        except BaseException:  # everything that it did is told; it never comes back into pytest
            report = json.dumps({"raised": traceback.format_exc()})
        os.write(write, report.encode())
        os._exit(0)
    os.close(write)
    with open(read, "rb") as pipe:
        text = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise Died(os.WTERMSIG(status))
    answer = json.loads(text)
    assert "raised" not in answer, answer["raised"]
    return answer["returned"]


def behind_filter(work: Callable[[], object], *, strict: bool = False) -> Any:
    """As `in_fork`, with the system calls filtered; `strict` as it is without namespaces and network."""
    program = syscalls.compile_program(inet=not strict, unix=not strict, namespaces=not strict)

    def filtered() -> object:
        privileges.no_new_privileges()
        syscalls.install(program)
        return work()

    return in_fork(filtered)


def errno_of(work: Callable[..., object], *arguments: object) -> int:
    """0, or the errno of what it raised."""
    try:
        work(*arguments)
    except OSError as error:
        return error.errno or -1
    return 0


def errno_of_syscall(number: int, *arguments: int) -> int:
    """0, or the errno with which the system call came back."""
    if libc.syscall(ctypes.c_long(number), *(ctypes.c_ulong(argument) for argument in arguments)) == -1:
        return ctypes.get_errno()
    return 0
