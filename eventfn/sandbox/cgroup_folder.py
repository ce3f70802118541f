"""Where a node may make control groups: a folder within the cgroup in which it was started, so that it never leaves
what its service manager or container allows it.

The node holds the folder's lock (flock) for as long as it lives, and the kernel lets go of it however the node dies. So
a folder whose lock can be had was left over by a dead node, and the others belong to somebody, whatever pid namespace
they are of.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from pathlib import Path
from typing import NamedTuple

CONTROLLERS = ("memory", "cpu", "pids")
_PREFIX = "eventfn-"
_OWN_CGROUP = (
    "start eventfn in a cgroup of its own: as root with `systemd-run --scope -p Delegate=yes eventfn run`, as a user "
    "with `systemd-run --user --scope -p Delegate=yes eventfn run`, as a service with Delegate=yes"
)


class NoCgroups(Exception):
    """No group can be made here. The text says why, and what the operator can do where something can be done."""


class Folder(NamedTuple):
    version: int  # of the kernel's cgroups, 1 or 2
    paths: dict[str, Path]  # controller -> the node's folder; with v2 it is the same one for all
    locks: list[int]  # open descriptors, which hold the locks


def take(proc: Path) -> Folder:
    """`proc` is /proc/self. Removes what dead nodes left. Raises NoCgroups."""
    own = _own_groups(proc)
    reasons: list[str] = []
    # v2 first: where both are mounted (systemd's hybrid), the controllers are v1's and v2 has none.
    for take_version in (_take_v2, _take_v1):
        try:
            return take_version(own)
        except NoCgroups as none:
            reasons.append(str(none))
    raise NoCgroups("; ".join(filter(None, reasons)) or "no cgroup file system is mounted")


def _own_groups(proc: Path) -> dict[str, Path]:
    """Controller, or "v2" -> the folder of the group in which this process is, for those that are mounted."""
    within: dict[str, str] = {}
    for line in (proc / "cgroup").read_text().splitlines():
        number, controllers, path = line.split(":", 2)
        within.update(dict.fromkeys(["v2"] if number == "0" else controllers.split(","), path))
    found: dict[str, Path] = {}
    for line in (proc / "mountinfo").read_text().splitlines():
        mount, _, file_system = line.partition(" - ")
        root, mounted = map(_unescaped, mount.split(" ")[3:5])
        kind, _, options = file_system.split(" ")[:3]
        if kind not in ("cgroup", "cgroup2"):
            continue
        for name in within.keys() & (["v2"] if kind == "cgroup2" else options.split(",")):
            # A container may show a part of the tree in which this process is not: then there is no way to its group.
            group = Path(within[name])
            if group.is_relative_to(root) and ".." not in group.parts:
                found[name] = Path(mounted) / group.relative_to(root)
    return found


def _unescaped(field: str) -> str:
    return field.replace(r"\040", " ").replace(r"\011", "\t").replace(r"\012", "\n").replace(r"\134", "\\")


# --- v1: each controller has a tree of its own -----------------------------------------------------------------------


def _take_v1(own: dict[str, Path]) -> Folder:
    paths: dict[str, Path] = {}
    locks: list[int] = []
    refused: list[str] = []
    claimed: dict[Path, Path] = {}  # two controllers may share a tree
    for name, group in ((name, own[name]) for name in CONTROLLERS if name in own):
        if not os.access(group, os.W_OK):
            refused.append(str(group))
        elif group in claimed:
            paths[name] = claimed[group]
        else:
            _remove_left_overs(group)
            paths[name] = claimed[group] = _claim(group, locks)
    if not paths:
        raise NoCgroups(f"not allowed to write {', '.join(refused)}: only root is" if refused else "")
    return Folder(1, paths, locks)


# --- v2: one tree, whose controllers are handed down from group to group ---------------------------------------------


def _take_v2(own: dict[str, Path]) -> Folder:
    group = own.get("v2")
    if group is None:
        raise NoCgroups("")
    offered = [name for name in CONTROLLERS if name in _words(group / "cgroup.controllers")]
    if not offered:
        raise NoCgroups(f"{group} has no controller of {', '.join(CONTROLLERS)}")
    for path in (group, group / "cgroup.procs", group / "cgroup.subtree_control"):
        if not os.access(path, os.W_OK):
            raise NoCgroups(f"not allowed to write {path}: {_OWN_CGROUP}")
    _remove_left_overs(group)
    locks: list[int] = []
    folder = _claim(group, locks)
    try:
        if not _is_root(group) and not set(offered).issubset(_words(group / "cgroup.subtree_control")):
            _leave_to_children(group, folder)
        refused = [error for name in offered if (error := _hand_down(name, group, folder)) is not None]
        given = _words(folder / "cgroup.subtree_control")
        if not given:
            raise NoCgroups(str(refused[0]))
    except NoCgroups:
        with contextlib.suppress(OSError):
            _write(group / "cgroup.procs", "0")  # back
        release(Folder(2, {"": folder}, locks))
        raise
    return Folder(2, {name: folder for name in offered if name in given}, locks)


def _is_root(group: Path) -> bool:
    """The one group that may have processes and also children with controllers. It alone has no type."""
    return not (group / "cgroup.type").exists()


def _leave_to_children(group: Path, folder: Path) -> None:
    """A group whose children have controllers may hold no processes itself. Its files are ours to write, because it was
    delegated to us or we are root: so we go into a leaf, if nobody else is here, for others are not ours to move. The
    leaf goes with the group of a service, or as a left-over at the next start."""
    others = [pid for pid in _words(group / "cgroup.procs") if pid != str(os.getpid())]
    if others:
        raise NoCgroups(f"other processes are in {group} too (pid {others[0]}): {_OWN_CGROUP}")
    leaf = folder / "supervisor"
    leaf.mkdir()
    _write(leaf / "cgroup.procs", "0")


def _hand_down(controller: str, *groups: Path) -> OSError | None:
    """One at a time: the cpu controller is refused where there are real-time processes, memory is of use without it."""
    try:
        for group in groups:
            _write(group / "cgroup.subtree_control", f"+{controller}")
    except OSError as error:
        return error
    return None


# --- the folder -----------------------------------------------------------------------------------------------------


def _claim(group: Path, locks: list[int]) -> Path:
    """A new folder of ours, locked. Raises NoCgroups."""
    while True:
        folder = group / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        try:
            folder.mkdir()
        except OSError as error:
            raise NoCgroups(f"mkdir({folder}): {error.strerror}") from error
        # Before the lock is ours, a node that starts beside us may take the folder for a left-over.
        with contextlib.suppress(FileNotFoundError):
            lock = _opened(folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                locks.append(lock)
                return folder
            os.close(lock)


def _remove_left_overs(group: Path) -> None:
    for folder in group.glob(f"{_PREFIX}*/"):
        with contextlib.suppress(FileNotFoundError):  # another node that starts was faster
            lock = _opened(folder)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder)
            except BlockingIOError:
                pass  # its node lives
            finally:
                os.close(lock)


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _remove(folder: Path) -> None:
    """A group whose processes are still dying stays, with the folder, for the next start."""
    with contextlib.suppress(OSError):
        for group in folder.glob("*/"):
            with contextlib.suppress(OSError):
                group.rmdir()
        folder.rmdir()


def release(folder: Folder) -> None:
    for path in set(folder.paths.values()):
        _remove(path)
    for lock in folder.locks:
        os.close(lock)


def _words(file: Path) -> list[str]:
    return file.read_text().split()


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text)
    except OSError as error:
        raise OSError(error.errno, f"write({file}, {text}): {error.strerror}") from error
