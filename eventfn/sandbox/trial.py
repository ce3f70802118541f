"""What this machine lets a process do, found by doing it: run as `python -I -S trial.py` by probe.py.

A program of its own and no fork of the supervisor, which has threads and must not change: this one is small, has one
thread, and all that it builds goes with it. It prints lines of a name and a value. What was tried has no value when it
went well, and otherwise the errno and the call with its arguments.

    landlock    the version of the kernel's Landlock; 0 without
    confine     no_new_privs, Landlock and seccomp, as around an environment
    namespaces  all of them twice, one within the other, as zygote and environment; mounts, a new root, a loopback
    proc        the /proc that can be mounted in them: full, pid (subset=pid) or none
"""

# No pathlib: importing it takes longer than all that is tried here.
# ruff: noqa: PTH100, PTH102, PTH120, PTH123
from __future__ import annotations

import ctypes
import os
import sys
import types
from collections.abc import Callable

_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC = 0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000
_NEWUSER, _NEWPID, _NEWNET = 0x1000_0000, 0x2000_0000, 0x4000_0000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_PRIVATE = 0x1, 0x2, 0x4, 0x8, 0x4000, 0x4_0000
_MNT_DETACH = 2
# Calls that C libraries have no function for yet; these numbers are the same on every machine.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_HERE, _OPEN_TREE_CLONE, _MOVE_MOUNT_F_EMPTY_PATH, _AT_EMPTY_PATH = -100, 1, 4, 0x1000

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    # A root without eventfn/__init__.py behind it: that one imports what is not for this side.
    root = types.ModuleType("eventfn")
    root.__path__ = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
    sys.modules["eventfn"] = root
    from eventfn.sandbox import landlock, network, privileges, syscalls

    def confine() -> str:
        rules = landlock.rules(landlock.Access(("/",), ()), tcp=False, version=version)
        program = syscalls.compile_program(inet=False, unix=True, namespaces=True)
        privileges.no_new_privileges()
        landlock.enforce(rules)
        syscalls.install(program)
        return ""

    version = landlock.abi()
    print("landlock", version)
    print("confine", _in_child(confine)[0])
    failed, proc = _in_child(lambda: _namespaces(network.bring_up_loopback))
    print("namespaces", failed)
    print("proc", proc or "none")


def _in_child(work: Callable[[], str]) -> tuple[str, str]:
    """What it failed with, and what it returned."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = f"\n{work()}"
        except OSError as error:
            said = f"{error.errno} {error.strerror}\n"
        except Exception as error:
            said = f"0 {error!r}\n"
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        failed, separator, result = answer.read().partition("\n")
    _, status = os.waitpid(pid, 0)
    return (failed, result) if separator else (f"0 the trial ended with status {status}", "")


def _namespaces(bring_up_loopback: Callable[[], None]) -> str:
    uid, gid = os.geteuid(), os.getegid()
    _unshare("CLONE_NEWUSER|CLONE_NEWNS", _NEWUSER | _NEWNS)
    _map(uid, gid)
    flags = _NEWUSER | _NEWPID | _NEWNS | _NEWNET | _NEWIPC | _NEWUTS | _NEWCGROUP
    _unshare("CLONE_NEWUSER|NEWPID|NEWNS|NEWNET|NEWIPC|NEWUTS|NEWCGROUP", flags)
    _map(0, 0)
    failed, proc = _in_child(lambda: _inside(bring_up_loopback))  # the first process of the pid namespace
    if failed:
        code, _, call = failed.partition(" ")
        raise OSError(int(code), call)
    return proc


def _inside(bring_up_loopback: Callable[[], None]) -> str:
    """On /sys, which every machine has, and which nobody misses in here."""
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE, None)
    _mount("tmpfs", "/sys", "tmpfs", _MS_NOSUID | _MS_NODEV, "size=64k,nr_inodes=16")
    for name in ("usr", "proc", "old"):
        os.mkdir(f"/sys/{name}")
    _detached("/usr", "/sys/usr")
    proc = _proc("/sys/proc")
    _checked("pivot_root('/sys', '/sys/old')", _libc.pivot_root(b"/sys", b"/sys/old"))
    _checked("umount2('/old', MNT_DETACH)", _libc.umount2(b"/old", _MNT_DETACH))
    bring_up_loopback()
    return proc


def _detached(source: str, target: str) -> None:
    """As a function's code is brought into its environment."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    tree = _system(f"open_tree({source!r}, OPEN_TREE_CLONE)", _OPEN_TREE, _HERE, source.encode(), flags)
    read_only = (ctypes.c_uint64 * 4)(_MS_RDONLY | _MS_NOSUID | _MS_NODEV)  # MOUNT_ATTR_ are the same three numbers
    size = ctypes.c_size_t(ctypes.sizeof(read_only))
    call = "mount_setattr(MOUNT_ATTR_RDONLY|NOSUID|NODEV)"
    _system(call, _MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(read_only), size)
    _system(f"move_mount({target!r})", _MOVE_MOUNT, tree, b"", _HERE, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
    os.close(tree)


def _proc(target: str) -> str:
    """Where a part of the outer one is hidden, as in most containers, the kernel gives no new one."""
    for kind, options in (("full", None), ("pid", "subset=pid")):
        try:
            _mount("proc", target, "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, options)
        except OSError:
            continue
        return kind
    return "none"


def _map(uid: int, gid: int) -> None:
    for file, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        try:
            with open(f"/proc/self/{file}", "w") as map_file:
                map_file.write(text)
        except OSError as error:
            raise OSError(error.errno, f"write(/proc/self/{file}, {text!r}): {error.strerror}") from error


def _unshare(names: str, flags: int) -> None:
    _checked(f"unshare({names})", _libc.unshare(flags))


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind, options)]
    call = f"mount({source!r}, {target!r}, {kind!r}, {flags:#x}, {options!r})"
    _checked(call, _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]))


def _system(call: str, number: int, *arguments: object) -> int:
    return _checked(call, _libc.syscall(ctypes.c_long(number), *arguments))


def _checked(call: str, result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")
    return result


if __name__ == "__main__":
    main()
