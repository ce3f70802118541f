"""What a process may become, who may look into it, and when it must die: prctl(2)."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import signal
import struct

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_CAPBSET_DROP = 24
_PR_SET_SECUREBITS = 28
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_CAP_SETPCAP = 8
_OF_THIS_THREAD = struct.pack("=Ii", 0x20080522, 0)  # struct __user_cap_header_struct: version 3
# Two of struct __user_cap_data_struct, effective, permitted and inheritable: the low 32 capabilities, then the others.
_CapabilitySets = ctypes.c_uint32 * 6
# Root means nothing, a change of user brings nothing back, nothing is kept or raised; each with its lock.
_SECUREBITS = 0b1110_1111

_libc = ctypes.CDLL(None, use_errno=True)
# For the forty calls that empty the bounding set: half the time of one that makes an object of each argument.
_prctl_of_numbers = _libc["prctl"]
_prctl_of_numbers.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)


def _prctl(name: str, option: int, argument: int | bytes) -> None:
    value = argument if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    if _libc.prctl(option, value, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({name}, {argument!r}): {os.strerror(error)}")


def die_with(parent: int) -> None:
    """SIGKILL when the parent dies. A change of credentials would clear it."""
    die_with_parent()
    if os.getppid() != parent:
        os._exit(0)  # it died before the line above


def die_with_parent() -> None:
    """The same for a process that cannot see who its parent is: the caller looks for it by other means afterwards."""
    _prctl("PR_SET_PDEATHSIG", _PR_SET_PDEATHSIG, signal.SIGKILL)


def set_name(name: str) -> None:
    """What ps and top show; the kernel keeps 15 bytes."""
    _prctl("PR_SET_NAME", _PR_SET_NAME, f"fn:{name}".encode()[:15])


def no_new_privileges() -> None:
    """No program that it starts gets more rights than it has: setuid and file capabilities give nothing."""
    _prctl("PR_SET_NO_NEW_PRIVS", _PR_SET_NO_NEW_PRIVS, 1)


def hide_memory() -> None:
    """Not dumpable: other processes of the same user cannot trace it or open its memory."""
    _prctl("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, 0)


def allow_looking_into() -> None:
    """Dumpable again, which a change of user ends; without it /proc/PID belongs to the machine's root."""
    _prctl("PR_SET_DUMPABLE", _PR_SET_DUMPABLE, 1)


def narrow_capabilities() -> None:
    """The first half of `drop_capabilities`, which then has only the second left to do: what is held is kept, but for
    the power over the sets themselves, and nothing that is started gets any of it."""
    sets = _CapabilitySets()
    _capabilities("capget", sets)
    _limit(sets)
    sets[0] &= ~(1 << _CAP_SETPCAP)
    sets[1] &= ~(1 << _CAP_SETPCAP)
    sets[2] = sets[5] = 0  # inheritable
    _capabilities("capset", sets)


def drop_capabilities() -> None:
    """None in any of the five sets, and with no_new_privs, which is set elsewhere, no way to get one back.

    Without CAP_SETPCAP, so without privileges, the bounding set and the securebits cannot be touched and need not be:
    they limit what a privileged program could hand on. OSError that names the call if one fails.
    """
    sets = _CapabilitySets()
    _capabilities("capget", sets)
    _limit(sets)
    # Last, since the two above need one: effective, permitted and inheritable.
    _capabilities("capset", _CapabilitySets())


def _limit(held: ctypes.Array[ctypes.c_uint32]) -> None:
    if held[0] & 1 << _CAP_SETPCAP:
        _prctl("PR_SET_SECUREBITS", _PR_SET_SECUREBITS, _SECUREBITS)
        _empty_bounding_set()
    _prctl("PR_CAP_AMBIENT", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)


def _empty_bounding_set() -> None:
    for capability in itertools.count():
        if _prctl_of_numbers(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            error = ctypes.get_errno()
            if error == errno.EINVAL and capability > _CAP_SETPCAP:
                return  # the first number that this kernel has no capability for
            raise OSError(error, f"prctl(PR_CAPBSET_DROP, {capability}): {os.strerror(error)}")


def _capabilities(call: str, sets: ctypes.Array[ctypes.c_uint32]) -> None:
    if getattr(_libc, call)(_OF_THIS_THREAD, sets) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}({list(sets)}): {os.strerror(error)}")
