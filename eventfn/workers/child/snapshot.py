"""snap_start: an environment whose init has run makes copies of itself, and runs nothing else.

It has its walls already, and whatever its function's module did was done behind them; so the copies stand behind them
too, together with it: one tree of files, one /tmp, one network and one process list for all of a function's copies.

Control socket (SEQPACKET), supervisor to snapshot and back:

    !BI COPY, number, settings as JSON; descriptors: channel, log pipe    !IiI number, exit status, most KB ever held
    !BI KILL or END, number                                               (once for each copy, at its end)

A copy speaks on its channel as any environment does. Everything that the supervisor hears from here is a function's
word, as on any channel.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import socket
import ssl
import struct
import sys
from types import FrameType
from typing import Any

from eventfn.sandbox import privileges
from eventfn.workers.child import frames
from eventfn.workers.child.results import Fault

COPY, KILL, END = range(3)
REQUEST = struct.Struct("!BI")
ENDED = struct.Struct("!IiI")
LONGEST = 65_536  # bytes of a message
NOT_COPIED = 255  # exit status of a copy that never was: fork failed


def run_hooks_before() -> None:
    """Raises Fault."""
    hooks = _registered("get_before_snapshot")
    try:
        while hooks:
            hook, arguments, options = hooks.pop()
            hook(*arguments, **options)
    except Exception as error:
        raise Fault("Runtime.BeforeSnapshotError", f"{type(error).__name__}: {error}") from error


def settle() -> None:
    """What each copy would else do for itself, or wait for: it is stopped as soon as it has said that it is ready."""
    ssl.RAND_bytes(1)  # OpenSSL sets itself up, a millisecond; a copy then only adds to it
    gc.collect()
    gc.freeze()  # what the init has made is not looked through, and so not copied, in each copy again


def run_hooks_after() -> None:
    """Raises Fault."""
    try:
        for hook, arguments, options in _registered("get_after_restore"):
            hook(*arguments, **options)
    except Exception as error:
        raise Fault("Runtime.AfterRestoreError", f"{type(error).__name__}: {error}") from error


def _registered(name: str) -> list[Any]:
    # Whichever module of this name the function has imported: it may have brought its own.
    module = sys.modules.get("snapshot_restore_py")
    hooks: list[Any] = [] if module is None else getattr(module, name)()
    return hooks


def serve(control: socket.socket) -> dict[str, Any]:
    """Makes copies until the supervisor has had enough. Returns in a copy only, with its settings; the channel and the
    log are its own then."""
    original = os.getpid()
    copies: dict[int, int] = {}  # pid -> number

    def report(number: int, status: int, most_kb: int) -> None:
        try:
            control.send(ENDED.pack(number, status, most_kb))
        except OSError:
            os._exit(0)

    def reap(_: int, __: FrameType | None) -> None:
        while copies:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            if ended.si_pid in copies:  # its children go with it, while its number cannot be another group's
                _tell(ended.si_pid, signal.SIGKILL)
            pid, status, usage = os.wait4(ended.si_pid, 0)
            if pid in copies:
                report(copies.pop(pid), os.waitstatus_to_exitcode(status), usage.ru_maxrss)

    before = signal.signal(signal.SIGCHLD, reap)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, LONGEST, 2)
        if not message:
            os._exit(0)
        kind, number = REQUEST.unpack_from(message)
        if kind != COPY:
            _end(copies, number, signal.SIGKILL if kind == KILL else signal.SIGTERM)
            continue
        # A copy that ends at once must not be reaped before it is known.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        try:
            pid = os.fork()
        except OSError:
            report(number, NOT_COPIED, 0)
            pid = -1
        if pid == 0:
            control.close()
            signal.signal(signal.SIGCHLD, before)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            _become_copy(original, *descriptors)
            settings: dict[str, Any] = json.loads(message[REQUEST.size :])
            return settings
        if pid > 0:
            copies[pid] = number
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        for descriptor in descriptors:
            os.close(descriptor)


def _end(copies: dict[int, int], number: int, how: int) -> None:
    for pid, each in list(copies.items()):
        if each == number:
            _tell(pid, how)


def _tell(pid: int, number: int) -> None:
    try:
        os.killpg(pid, number)
    except ProcessLookupError:  # not yet a group of its own
        os.kill(pid, number)


def _become_copy(original: int, channel: int, log_pipe: int) -> None:
    # Where no init sees to it: with the original all copies end, and it ends with the supervisor.
    privileges.die_with(original)
    os.setsid()
    os.dup2(log_pipe, 1)
    os.dup2(log_pipe, 2)
    os.dup2(channel, frames.CHANNEL, inheritable=False)
    for descriptor in (channel, log_pipe):
        if descriptor > frames.CHANNEL:
            os.close(descriptor)
    # Two copies must not draw the same random numbers, nor the same TLS keys. `random` has seen to itself.
    random.seed()
    ssl.RAND_add(os.urandom(32), 32)
