"""What a process may become, who may look into it, and when it must die: prctl(2)."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(name: str, option: int, argument: int | bytes) -> None:
    value = argument if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    if _libc.prctl(option, value, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({name}, {argument!r}): {os.strerror(error)}")


def die_with(parent: int) -> None:
    """SIGKILL when the parent dies. A change of credentials would clear it."""
    _prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)  # it died before the line above


def set_name(name: str) -> None:
    """What ps and top show; the kernel keeps 15 bytes."""
    _prctl("PR_SET_NAME", _PR_SET_NAME, f"fn:{name}".encode()[:15])


def no_new_privileges() -> None:
    """No program that it starts gets more rights than it has: setuid and file capabilities give nothing."""
    _prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)


def hide_memory() -> None:
    """Not dumpable: other processes of the same user cannot trace it or open its memory."""
    _prctl("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, 0)
