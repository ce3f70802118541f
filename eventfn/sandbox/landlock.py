"""Landlock: what of the file system, of TCP and of its neighbours a process reaches, whatever its user may reach.

The second wall behind the mount namespace, and the first where there is none. Everything that this kernel's version
knows is shut, and the rules open what the policy names. Source: landlock(7), linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

# The same numbers on every machine.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION: Final = 1
_PATH_BENEATH: Final = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE = 1 << 4, 1 << 5
_MAKE_CHAR, _MAKE_DIR, _MAKE_REG, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK, _MAKE_SYM = (1 << bit for bit in range(6, 13))
_REFER: Final = 1 << 13  # link and rename into another folder
_TRUNCATE: Final = 1 << 14
_IOCTL_DEV: Final = 1 << 15

_READ: Final = _EXECUTE | _READ_FILE | _READ_DIR
# Making devices, and ioctl on them, is given to nobody.
_WRITE: Final = (
    _READ
    | _WRITE_FILE
    | _TRUNCATE
    | _REMOVE_DIR
    | _REMOVE_FILE
    | _MAKE_DIR
    | _MAKE_REG
    | _MAKE_SOCK
    | _MAKE_FIFO
    | _MAKE_SYM
    | _REFER
)
_OF_A_FILE: Final = _EXECUTE | _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV  # the others only mean folders

_TCP: Final = 1 << 0 | 1 << 1  # bind, connect
_SCOPES: Final = 1 << 0 | 1 << 1  # abstract unix sockets of others, signals to others

_libc = ctypes.CDLL(None, use_errno=True)


class Access(NamedTuple):
    """Absolute paths of files and folders; of a folder, all below it. What is under both may be written."""

    read: tuple[str, ...]  # and executed
    write: tuple[str, ...]  # and read and executed
    listed: tuple[str, ...] = ()  # folders of which the names may be seen, and no more by that


class Handled(NamedTuple):
    """struct landlock_ruleset_attr: what is forbidden unless a rule allows it."""

    files: int
    tcp: int
    scopes: int


def abi() -> int:
    """The version of Landlock that this kernel has, from 1; 0 if it has none or it is switched off."""
    version: int = _libc.syscall(ctypes.c_long(_CREATE_RULESET), None, ctypes.c_size_t(0), ctypes.c_uint(_ASK_VERSION))
    return max(version, 0)


def handled(version: int, *, tcp: bool) -> Handled:
    """Everything that this version of Landlock can forbid: nothing newer, which the kernel would refuse to hear of."""
    files = (1 << 13) - 1
    for brought_by, right in ((2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV)):
        if version >= brought_by:
            files |= right
    return Handled(files, _TCP if version >= 4 and not tcp else 0, _SCOPES if version >= 6 else 0)


def rules(access: Access, *, tcp: bool, version: int) -> int:
    """A descriptor of the rules, for `enforce`. `tcp`: whether TCP may be used at all; `version`: what abi() said.

    OSError if a path does not exist, or if the kernel takes a rule not.
    """
    forbidden = handled(version, tcp=tcp)
    # An older kernel takes the longer struct as long as what it does not know is zero.
    attributes = struct.pack("=QQQ", *forbidden)
    descriptor = _call(
        f"landlock_create_ruleset({forbidden})",
        _CREATE_RULESET,
        ctypes.c_char_p(attributes),
        ctypes.c_size_t(len(attributes)),
        ctypes.c_uint(0),
    )
    try:
        add(descriptor, access, tcp=tcp, version=version)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def add(descriptor: int, access: Access, *, tcp: bool, version: int) -> None:
    """More of it, to rules that were made with the same `tcp` and `version` and are not enforced yet."""
    forbidden = handled(version, tcp=tcp)
    for paths, rights in ((access.read, _READ), (access.write, _WRITE), (access.listed, _READ_DIR)):
        for path in paths:
            _allow(descriptor, path, rights & forbidden.files)


def without(read: Iterable[str], hidden: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What to `read` and what to have `listed` instead, if what is below `hidden` is to be left out: a rule cannot take
    back what one above it gives. What comes into a divided folder later is not readable."""
    readable: list[str] = []
    listed: list[str] = []
    waiting = list(read)
    while waiting:
        path = waiting.pop()
        if path in hidden:
            continue
        if not any(each.startswith(f"{path}/") for each in hidden):
            readable.append(path)
            continue
        listed.append(path)
        # Not through links: a rule would be for what they lead to.
        waiting += [entry.path for entry in os.scandir(path) if not entry.is_symlink()]
    return tuple(readable), tuple(listed)


def enforce(descriptor: int) -> None:
    """From here on, for this thread and all that it starts. Closes the descriptor. no_new_privs is set before."""
    try:
        _call("landlock_restrict_self", _RESTRICT_SELF, ctypes.c_int(descriptor), ctypes.c_uint(0))
    finally:
        os.close(descriptor)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise OSError(error.errno, f"open({path!r}, O_PATH) for a Landlock rule: {error.strerror}") from error
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_A_FILE
        rule = struct.pack("=Qi", rights, descriptor)  # struct landlock_path_beneath_attr, which is packed
        _call(
            f"landlock_add_rule({path!r}, {rights:#x})",
            _ADD_RULE,
            ctypes.c_int(ruleset),
            ctypes.c_int(_PATH_BENEATH),
            ctypes.c_char_p(rule),
            ctypes.c_uint(0),
        )
    finally:
        os.close(descriptor)


def _call(what: str, number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result
