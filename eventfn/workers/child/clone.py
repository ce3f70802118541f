"""fork(2) with two differences: the new process is a child of the zygote's parent, the supervisor, and it may be given
namespaces of its own.

So the supervisor waits for environments itself, and a killed zygote kills no environment and leaves none unwatched.
"""

from __future__ import annotations

import ctypes
import os
import platform
import signal

_CLONE_PARENT = 0x0000_8000
_CLONE_CHILD_CLEARTID = 0x0020_0000
_CLONE_CHILD_SETTID = 0x0100_0000
_PR_GET_TID_ADDRESS = 40

# clone and not clone3: Docker's default seccomp profile answers clone3 with ENOSYS. Its number and the order of its
# arguments differ between architectures: (number, index of child_tid among the five arguments).
_CLONE = {"x86_64": (56, 3), "aarch64": (220, 4)}

# PyDLL keeps the GIL: no other thread may run between the kernel's copy and Python's clean-up after it.
_libc = ctypes.PyDLL(None, use_errno=True)


def _tid_address() -> int:
    # glibc keeps the thread's id at this address; the kernel fills in the child's, as fork does.
    address = ctypes.c_void_p()
    if _libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) != 0 or address.value is None:
        raise OSError(ctypes.get_errno(), "prctl(PR_GET_TID_ADDRESS): this kernel has no CONFIG_CHECKPOINT_RESTORE")
    return address.value


def clone(namespaces: int) -> int:
    """0 in the new process, its pid in the zygote. `namespaces`: its CLONE_NEW flags. Raises OSError in the zygote.

    With namespaces it is an init, which is to touch as little memory as it can: none of what a fork in Python puts in
    order, locks and threads and hooks of modules, which is half a megabyte. It uses none of that.
    """
    if namespaces:
        return _cloned(_CLONE_PARENT | namespaces)
    python = ctypes.pythonapi
    python.PyOS_BeforeFork()
    pid = -1
    try:
        pid = _cloned(_CLONE_PARENT)
    finally:
        if pid == 0:
            python.PyOS_AfterFork_Child()
        else:
            python.PyOS_AfterFork_Parent()
    return pid


def put_in_order() -> None:
    """What a fork in Python does in the new process, without one: what it writes to is written to by then."""
    ctypes.pythonapi.PyOS_BeforeFork()
    ctypes.pythonapi.PyOS_AfterFork_Child()


def fork_for_a_moment() -> int:
    """fork(2), for a child that does a few things and ends: without what a fork in Python puts in order."""
    return _cloned(signal.SIGCHLD)


def _cloned(flags: int) -> int:
    machine = platform.machine()
    if machine not in _CLONE:
        raise OSError(0, f"clone: eventfn knows x86_64 and aarch64, not {machine}")
    number, tid_index = _CLONE[machine]
    arguments = [0, 0, 0, 0, 0]
    arguments[0] = flags | _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID
    arguments[tid_index] = _tid_address()
    pid: int = _libc.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    if pid < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"clone({flags:#x}): {os.strerror(error)}")
    return pid
