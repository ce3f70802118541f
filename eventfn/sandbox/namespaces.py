"""Namespaces: what an environment does not even see. Which ones there are, and who it is inside them.

The numbers are the kernel's (linux/sched.h); user_namespaces(7) has the rules of the maps.
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path

NEW_MOUNTS = 0x0002_0000
NEW_CGROUP = 0x0200_0000
NEW_UTS = 0x0400_0000
NEW_IPC = 0x0800_0000
NEW_USER = 0x1000_0000
NEW_PIDS = 0x2000_0000
NEW_NETWORK = 0x4000_0000

# Of every environment; NEW_NETWORK comes to it unless the function is to use the machine's network.
OF_AN_ENVIRONMENT = NEW_USER | NEW_PIDS | NEW_MOUNTS | NEW_IPC | NEW_UTS

# Who a function is inside, as in Lambda. Never 0 outside: the kernel does not count root's processes.
USER, UID, GID = "sbx_user1051", 993, 990

# Where eventfn runs as root, each environment is a user of its own on the machine, from a range that nobody is
# given: above the one that systemd's containers draw from. A machine within a machine may have fewer ids.
_FIRST_HOST_ID = 0x7000_0000
HOST_IDS = 4096

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    if _libc.unshare(ctypes.c_int(flags)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"unshare({flags:#x}): {os.strerror(error)}")


def set_host_name(name: str) -> None:
    encoded = name.encode()
    if _libc.sethostname(encoded, len(encoded)) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"sethostname({name!r}): {os.strerror(error)}")


def map_ids(pid: int, uid: int, gid: int, host_uid: int, host_gid: int, count: int = 1) -> None:
    """Tells the kernel who ids of `pid`'s user namespace are outside. Once only, and before it becomes one of them."""
    folder = Path(f"/proc/{pid}")
    for name, line in (
        ("setgroups", "deny"),  # else a function could drop a group that a file's permissions exclude
        ("uid_map", f"{uid} {host_uid} {count}"),
        ("gid_map", f"{gid} {host_gid} {count}"),
    ):
        try:
            (folder / name).write_text(line)
        except OSError as error:
            raise OSError(error.errno, f"write({folder / name}, {line!r}): {error.strerror}") from error


def shared_host_id() -> int:
    """Who all functions are outside that are given folders of the machine, where eventfn runs as root."""
    return _free_host_ids() + HOST_IDS - 1


def become(uid: int, gid: int) -> None:
    """That user and group, and no other group that can be given up. Capabilities in the own user namespace stay."""
    try:
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise OSError(error.errno, f"setresuid({uid}), setresgid({gid}): {error.strerror}") from error


def leave_root_behind() -> None:
    """For root, once: a user namespace whose ids are nobody's on the machine, and one of them for this process.

    From here on it holds no power over the machine, only over what it makes itself.
    """
    first = _free_host_ids()
    ready, go = os.pipe()
    writer = os.fork()
    if writer == 0:  # still root outside, which is who may write such a map
        os.close(go)
        os.read(ready, 1)
        status = 1
        try:
            map_ids(os.getppid(), 0, 0, first, first, HOST_IDS)
            status = 0
        finally:
            os._exit(status)
    os.close(ready)
    try:
        os.setgroups([])
        unshare(NEW_USER | NEW_MOUNTS)
    except BaseException:
        os.kill(writer, signal.SIGKILL)
        raise
    finally:
        os.close(go)
        _, status = os.waitpid(writer, 0)
    if status != 0:
        raise OSError(1, f"the map of {HOST_IDS} ids from {first} on could not be written")
    become(0, 0)


def become_root_of_oneself() -> None:
    """For an ordinary user, once: a user namespace in which it is root, and outside remains who it is."""
    uid, gid = os.getuid(), os.getgid()
    unshare(NEW_USER | NEW_MOUNTS)
    map_ids(os.getpid(), 0, 0, uid, gid)


def _free_host_ids() -> int:
    extents = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    for inside, _, count in extents:
        if inside <= _FIRST_HOST_ID and inside + count >= _FIRST_HOST_ID + HOST_IDS:
            return _FIRST_HOST_ID
    inside, _, count = max(extents, key=lambda extent: extent[2])
    if count < 2 * HOST_IDS:
        raise OSError(1, f"/proc/self/uid_map: no {HOST_IDS} ids that nobody uses; give this container more, or a user")
    return inside + count - HOST_IDS
