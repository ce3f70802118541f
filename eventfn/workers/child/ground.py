"""What the zygote makes ready for all its environments, as this machine's tier allows: the pieces of their tree, the
compiled filter of system calls, and who they are.

One place for the difference between the tiers on the zygote's side; contain.py has it for a single environment.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from eventfn.sandbox import landlock, mounts, namespaces, privileges, syscalls

_SCOPES_SOCKETS = 6  # the version of Landlock that keeps abstract sockets to oneself: Linux 6.12
_DEVICES = tuple(f"/dev/{name}" for name in mounts.DEVICES)


class Ground(NamedTuple):
    tier: str  # "full", "landlock" or "none"
    proc: str  # "pid": a /proc of its own processes can be mounted; "none": none
    skeleton: mounts.Skeleton | None  # of the full tier
    stand_ins: str  # eventfn's modules for functions, where an environment finds them
    root: bool  # whether environments can be given host ids of their own
    readable: tuple[str, ...]  # what Landlock lets every function read and run
    writable: tuple[str, ...]
    landlock: int  # its version in this kernel
    alone: bytes  # filter of a function that has no network, or one of its own
    on_machines_network: bytes


def prepare(tier: str, proc: str, stand_ins: str) -> Ground:
    """Once, before the first clone. Raises OSError that names the call."""
    root = os.geteuid() == 0
    skeleton = None
    if tier == "full":
        prefixes = mounts.interpreter_prefixes()
        if root:  # pieces first: only the machine's root can look into every folder that an interpreter may live in
            namespaces.unshare(namespaces.NEW_MOUNTS)
            mounts.take_apart_from_machine()
            skeleton = mounts.Skeleton(prefixes, stand_ins)
            namespaces.leave_root_behind()
        else:
            namespaces.become_root_of_oneself()
            mounts.take_apart_from_machine()
            skeleton = mounts.Skeleton(prefixes, stand_ins)
        # A clone's maps are written from here, which the kernel allows only while it can be looked into. Nobody that
        # runs a function can: no function sees this process.
        privileges.allow_looking_into()
    else:
        privileges.hide_memory()  # what all later ones are copied from, and functions run as the same user
    # A network of one's own leads nowhere, and neither do unix sockets in a tree of one's own: both are let through.
    # Abstract unix sockets belong to the network: on the machine's, Landlock keeps a function to its own.
    abi, full = landlock.abi(), tier == "full"
    on_machines_network = syscalls.compile_program(inet=True, unix=full and abi >= _SCOPES_SOCKETS, namespaces=full)
    alone = syscalls.compile_program(inet=full, unix=full, namespaces=full)
    readable, writable = _second_line(tier, stand_ins)
    return Ground(
        tier,
        proc,
        skeleton,
        mounts.RUNTIME if skeleton else stand_ins,
        root,
        readable,
        writable,
        abi,
        alone,
        on_machines_network,
    )


def _second_line(tier: str, stand_ins: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if tier == "full":  # the tree has nothing else in it
        return ("/",), ("/tmp", mounts.SHARED_MEMORY, *_DEVICES)  # noqa: S108 - its own
    # /tmp is everybody's, and said to be: without a tree of its own a function has no other.
    readable = (*mounts.system_paths(), *mounts.interpreter_prefixes(), stand_ins, "/proc/self")
    return readable, tuple(path for path in ("/tmp", mounts.SHARED_MEMORY, *_DEVICES) if Path(path).exists())  # noqa: S108


def namespaces_of(ground: Ground, *, machines_network: bool) -> int:
    if ground.tier != "full":
        return 0
    return namespaces.OF_AN_ENVIRONMENT | (0 if machines_network else namespaces.NEW_NETWORK)


def give_identity(ground: Ground, pid: int, slot: int, *, shared: bool) -> None:
    """Who a new environment is outside: somebody of its own, where there are ids to be had, or the one whom the folders
    of the machine know. Raises OSError; it is ended then."""
    if ground.tier != "full":
        return
    host = 0  # as this zygote's own namespace counts
    if ground.root:
        host = namespaces.HOST_IDS - 1 if shared else 1 + slot % (namespaces.HOST_IDS - 2)
    try:
        namespaces.map_ids(pid, namespaces.UID, namespaces.GID, host, host)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise


def trees(wanted: Iterable[tuple[str, bool, int | None]]) -> list[int]:
    """Folders as mounts that belong nowhere yet: [path, read only, map of owners] each."""
    descriptors: list[int] = []
    try:
        for path, read_only, owners in wanted:
            descriptors.append(mounts.detached(path, read_only=read_only, userns=owners))
    except OSError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return descriptors
