"""An attacker's tools, beside every handler: try something, and say what came of it. Standard library only."""

# Handlers are bodies, which take what they need from here.
# ruff: noqa: F401
import contextlib
import ctypes
import ctypes.util
import errno
import fcntl
import gc
import glob
import json
import mmap
import os
import random
import resource
import select
import signal
import socket
import ssl
import stat
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

libc = ctypes.CDLL(None, use_errno=True)
NUMBERS: dict[str, int]  # of system calls: the last line of this file, when it is run


class Machine:
    """The event: process ids, paths and ports that an attacker could have found out."""

    def __init__(self, event: dict[str, Any]) -> None:
        self.__dict__.update(event)


def not_below_tmp(folders: list[str]) -> list[str]:
    """Where functions have no tree of their own, /tmp is everybody's: an eventfn that is installed there is, too."""
    return [folder for folder in folders if not folder.startswith("/tmp/")]


def attempt(work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """What it returned, "done" instead of nothing, or the name of the errno that it raised."""
    try:
        result = work(*arguments, **named)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done" if result is None else result


def call(name: str | int, *arguments: Any) -> Any:
    """A system call, as it is: its result or the name of its errno."""
    number = NUMBERS[name] if isinstance(name, str) else name  # noqa: F821 - see above
    packed = [item if isinstance(item, bytes) or hasattr(item, "_type_") else ctypes.c_long(item) for item in arguments]
    libc.syscall.restype = ctypes.c_long
    result = libc.syscall(ctypes.c_long(number), *packed)
    return errno.errorcode[ctypes.get_errno()] if result == -1 else result


def read(path: str) -> str:
    with open(path, "rb") as file:
        return file.read(4096).decode("latin-1")


def write(path: str, text: str = "mine") -> None:
    with open(path, "w") as file:
        file.write(text)


def said_by(target: Any, family: int = socket.AF_UNIX) -> str:
    """What a service answers."""
    with socket.socket(family) as connection:
        connection.settimeout(5)
        connection.connect(target)
        return connection.recv(100).decode()


def in_child(work: Callable[[], Any]) -> Any:
    """What `work` returns in a fork, or the signal that ended it."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        try:
            answer = work()
        except BaseException as error:
            answer = repr(error)
        os.write(into, json.dumps(answer).encode())
        os._exit(0)
    os.close(into)
    with open(out) as pipe:
        text = pipe.read()
    status = os.waitpid(child, 0)[1]
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else json.loads(text)


def forks(most: int, work: Callable[[], object] = lambda: time.sleep(100)) -> list[int]:
    """How many children it gets, at most so many, which live until `end_children`."""
    started = []
    for _ in range(most):
        try:
            pid = os.fork()
        except BlockingIOError:
            break
        if pid == 0:
            try:
                work()
            finally:
                os._exit(0)
        started.append(pid)
    return started


def end_children(pids: list[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        os.waitpid(pid, 0)
