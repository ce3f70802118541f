"""The files that an environment sees: a tree of its own, put together of read-only pieces of the machine's.

    /usr /lib /bin ... and the interpreter     the machine's, read-only
    /etc /dev                                  a handful of files and devices, made here
    /var/task /opt /var/runtime /var/bytecode  code, layers, eventfn's stand-in, bytecode; read-only
    /tmp /dev/shm                              its own, in memory, bounded
    /proc                                      of its own processes, where the kernel lets a new one be mounted

The zygote makes the pieces once (`Skeleton`), an environment puts its tree together out of them before it has a
function, and what is the function's own comes as mounts that belong nowhere yet (`detached`, `attach`). Numbers are
the kernel's (linux/mount.h).
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

from eventfn.sandbox.namespaces import GID, UID, USER

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE, _MS_SLAVE = (
    1, 2, 4, 8, 32, 4096, 16384, 1 << 18, 1 << 19,
)  # fmt: skip
_MNT_DETACH = 2
_OPEN_TREE_CLONE, _AT_RECURSIVE, _AT_EMPTY_PATH, _AT_FDCWD = 1, 0x8000, 0x1000, -100
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV, _MOUNT_ATTR_IDMAP = 1, 2, 4, 0x0010_0000
# The same numbers on every architecture: calls since 2018 share them. pivot_root is older.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

# Nobody keeps code here, so nothing is hidden by it. Only the zygote and its clones see it.
_WORKSHOP = "/sys"
_SKELETON = f"{_WORKSHOP}/skeleton"
_NEW_ROOT = f"{_WORKSHOP}/root"

TASK, OPT, RUNTIME, BYTECODE = "/var/task", "/opt", "/var/runtime", "/var/bytecode"
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a mount of the environment's own
DEVICES = ("null", "zero", "full", "random", "urandom")
_SHARED_MEMORY_MB = 64

# Of the machine's /etc what programs look at and holds no secret. /etc itself has passwords and addresses. Without its
# security folder Debian's Java does not start.
_ETC = (
    "alternatives", "ca-certificates", "crypto-policies", "java-*/security", "java-*/*.properties", "ld.so.cache",
    "ld.so.conf", "ld.so.conf.d", "localtime", "mime.types", "os-release", "pki", "protocols", "services", "ssl/certs",
    "ssl/openssl.cnf",
)  # fmt: skip
_SYSTEM = ("usr", "lib", "lib32", "lib64", "libx32", "bin", "sbin")

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _checked(result: int, call: str) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{call}: {os.strerror(error)}")
    return result


def _mount(source: str, target: str, kind: str | None, flags: int, data: str = "") -> None:
    encoded = [item.encode() if item is not None else None for item in (source, target, kind)]
    result = _libc.mount(*encoded, ctypes.c_ulong(flags), data.encode() or None)
    _checked(result, f"mount({source!r}, {target!r}, {kind!r}, {flags:#x}, {data!r})")


def _set_attributes(descriptor: int, path: str, flags: int, attributes: int, userns: int = 0) -> None:
    wanted = struct.pack("=QQQQ", attributes, 0, 0, userns)
    result = _libc.syscall(
        ctypes.c_long(_MOUNT_SETATTR), ctypes.c_int(descriptor), path.encode(), ctypes.c_uint(flags), wanted,
        ctypes.c_size_t(len(wanted)),
    )  # fmt: skip
    _checked(result, f"mount_setattr({descriptor}, {path!r}, {flags:#x}, {attributes:#x})")


# --- pieces, made once by the zygote ---------------------------------------------------------------------------------


def take_apart_from_machine() -> None:
    """What is mounted from now on stays here; what the machine mounts is still seen here."""
    _mount("none", "/", None, _MS_REC | _MS_SLAVE)


class Skeleton:
    """What all environments of a zygote have in common. Built by root, or by who is root of a user namespace."""

    def __init__(self, prefixes: Iterable[str], runtime: str) -> None:
        """`prefixes`: folders with the interpreter; `runtime`: the one that becomes /var/runtime."""
        _mount("tmpfs", _WORKSHOP, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=1m")
        for folder in (_SKELETON, _NEW_ROOT, f"{_SKELETON}/etc", f"{_SKELETON}/dev", f"{_SKELETON}{SHARED_MEMORY}"):
            Path(folder).mkdir(mode=0o755)
        self._links: list[tuple[str, str]] = []  # name in the root, target
        self._trees: list[str] = ["etc", "dev"]  # paths below the root that are mounts of the skeleton
        for name in _SYSTEM:
            path = Path("/", name)
            if path.is_symlink():
                self._links.append((name, str(path.readlink())))
            elif path.is_dir():
                self._tree(str(path))
        for prefix in sorted(set(prefixes)):
            if not any(Path(prefix).is_relative_to(f"/{tree}") for tree in self._trees):
                self._tree(prefix)
        self._tree(runtime, RUNTIME)
        self._etc()
        self._dev()

    def _tree(self, source: str, target: str | None = None) -> None:
        """A folder of the machine, at the same path if no other is given, with all that is mounted below it."""
        name = (target or source).lstrip("/")
        Path(_SKELETON, name).mkdir(mode=0o755, parents=True)
        attach(detached(source, read_only=True), f"{_SKELETON}/{name}")
        self._trees.append(name)

    def _etc(self) -> None:
        etc = Path(_SKELETON, "etc")
        for source in (found for name in _ETC for found in Path("/etc").glob(name)):
            if not source.exists():
                continue  # a link that leads nowhere
            target = etc / source.relative_to("/etc")
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                target.mkdir()
            else:
                target.touch()
            attach(detached(str(source), read_only=True), str(target))
        for name, text in (
            ("passwd", f"root:x:0:0:root:/root:/sbin/nologin\n{USER}:x:{UID}:{GID}::/tmp:/bin/sh\n"),
            ("group", f"root:x:0:\n{USER}:x:{GID}:\n"),
            ("hosts", "127.0.0.1 localhost sandbox sandbox.localdomain\n::1 localhost\n"),
            ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"),
            ("resolv.conf", ""),
        ):
            (etc / name).write_text(text)

    def _dev(self) -> None:
        dev = Path(_SKELETON, "dev")
        for name in DEVICES:
            (dev / name).touch()
            _mount(f"/dev/{name}", str(dev / name), None, _MS_BIND)
        for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
            (dev / name).symlink_to(target)

    # --- the tree of an environment ----------------------------------------------------------------------------------

    def enter(self, *, proc: str, machines_network: bool) -> None:
        """From now on this is all that there is. In a mount namespace of one's own, with the maps written.

        `proc`: "none" where the kernel lets none be mounted, since the machine's own is covered in places (containers).
        """
        root = Path(_NEW_ROOT)
        _mount("tmpfs", _NEW_ROOT, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=1m,nr_inodes=4096")
        for name, target in self._links:
            (root / name).symlink_to(target)
        for folder in ("tmp", "proc", "mnt", TASK[1:], OPT[1:], BYTECODE[1:], *self._trees):
            (root / folder).mkdir(mode=0o755, parents=True, exist_ok=True)
        for name in self._trees:
            # Read-only on each mount: an ordinary user's functions are on the machine who owns the pieces.
            attach(detached(f"{_SKELETON}/{name}", read_only=True, devices=name == "dev"), str(root / name))
        if machines_network:
            attach(detached("/etc/resolv.conf", read_only=True), str(root / "etc/resolv.conf"))
        # /tmp gets its size with the function; until then nothing runs that could write.
        _mount("tmpfs", str(root / "tmp"), "tmpfs", _MS_NOSUID | _MS_NODEV, f"mode=1777,uid={UID},gid={GID},size=1m")
        _mount(
            "tmpfs",
            f"{_NEW_ROOT}{SHARED_MEMORY}",
            "tmpfs",
            _MS_NOSUID | _MS_NODEV | _MS_NOEXEC,
            f"mode=1777,uid={UID},gid={GID},size={_SHARED_MEMORY_MB}m,nr_inodes=1024",
        )
        if proc != "none":
            # Of the processes alone: the rest of it describes the machine.
            _mount("proc", str(root / "proc"), "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, "subset=pid")
        os.chdir(_NEW_ROOT)
        # Both at one place: the old root then lies on top of the new one, and is taken off.
        pivot = _PIVOT_ROOT[os.uname().machine]
        _checked(_libc.syscall(ctypes.c_long(pivot), b".", b"."), "pivot_root('.', '.')")
        _checked(_libc.umount2(b".", _MNT_DETACH), "umount2('.', MNT_DETACH)")
        os.chdir("/")


def system_paths() -> list[str]:
    """What of the machine a program cannot do without, for a function that has no tree of its own."""
    wanted = [f"/{name}" for name in _SYSTEM] + [f"/etc/{name}" for name in (*_ETC, "passwd", "group", "hosts")]
    return [path for path in (*wanted, "/etc/nsswitch.conf", "/etc/resolv.conf") if Path(path).exists()]


def interpreter_prefixes() -> list[str]:
    """The folders that this interpreter lives in."""
    return [os.path.realpath(prefix) for prefix in {sys.base_prefix, sys.base_exec_prefix}]


# --- what is a function's own ----------------------------------------------------------------------------------------


def detached(path: str, *, read_only: bool, devices: bool = False, userns: int | None = None) -> int:
    """A descriptor of a folder or file, and of what is mounted below it, as a mount that belongs nowhere yet.

    With `userns`, a descriptor of a user namespace, files belong to whom its map says (root of the machine only).
    """
    flags = _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC
    result = _libc.syscall(ctypes.c_long(_OPEN_TREE), ctypes.c_int(_AT_FDCWD), os.fsencode(path), ctypes.c_uint(flags))
    descriptor = _checked(result, f"open_tree({path!r}, OPEN_TREE_CLONE)")
    try:
        attributes = _MOUNT_ATTR_NOSUID | (_MOUNT_ATTR_RDONLY if read_only else 0)
        attributes |= 0 if devices else _MOUNT_ATTR_NODEV
        _set_attributes(descriptor, "", _AT_EMPTY_PATH | _AT_RECURSIVE, attributes)
        if userns is not None:
            _set_attributes(descriptor, "", _AT_EMPTY_PATH, _MOUNT_ATTR_IDMAP, userns)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def attach(descriptor: int, target: str) -> None:
    """Gives a detached mount its place, and closes its descriptor."""
    result = _libc.syscall(
        ctypes.c_long(_MOVE_MOUNT), ctypes.c_int(descriptor), b"", ctypes.c_int(_AT_FDCWD), target.encode(),
        ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH),
    )  # fmt: skip
    _checked(result, f"move_mount({descriptor}, {target!r})")
    os.close(descriptor)


def finish(mounts: Iterable[tuple[int, str]], hidden: Iterable[str], *, tmp_mb: int) -> None:
    """The function's own mounts in their places, something empty over what is `hidden` in them, /tmp with its size, and
    nothing can be added any more."""
    for descriptor, target in mounts:
        try:
            attach(descriptor, target)
        except FileNotFoundError:  # none of those that every tree has
            Path(target).mkdir(mode=0o755, parents=True, exist_ok=True)
            attach(descriptor, target)
    for path in hidden:
        if Path(path).is_dir():
            flags = _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
            _mount("tmpfs", path, "tmpfs", flags, "mode=555,size=4k,nr_inodes=1")
    size_tmp(tmp_mb)
    _set_attributes(_AT_FDCWD, "/", 0, _MOUNT_ATTR_RDONLY)


def size_tmp(megabytes: int) -> None:
    # An inode takes about 1 KB of memory that no byte count sees: one for each 4 KB, as file systems have it.
    _mount("none", "/tmp", None, _MS_REMOUNT | _MS_NOSUID | _MS_NODEV, f"size={megabytes}m,nr_inodes={megabytes * 256}")  # noqa: S108 - its own


def replace_file(target: str, text: str) -> None:
    """Another content for a file of the read-only tree, for this environment alone. Before `finish`."""
    own = Path("/run", target.strip("/").replace("/", "-"))
    own.parent.mkdir(mode=0o755, exist_ok=True)
    own.write_text(text)
    attach(detached(str(own), read_only=True), target)
