"""The walls around functions in each tier, as data: printed by `run` and `status`, so that nobody believes in one that
does not stand.

    full        namespaces, Landlock and seccomp
    landlock    Landlock and seccomp, for want of user namespaces
    none        processes of their own, and limits of each of them

cgroups come on top in every tier, where they may be used.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal, NamedTuple

from eventfn.sandbox.cgroups import PROCESSES

Tier = Literal["none", "landlock", "full"]
_LANDLOCK_SCOPES_SIGNALS = 6  # the ABI


class Wall(NamedTuple):
    name: str
    enforced: bool
    meaning: str  # one line for the operator: what holds, or what a function can still do


def of(
    tier: Tier, reason: str, landlock_abi: int, controllers: Collection[str], missing: str, *, kills: bool, root: bool
) -> tuple[Wall, ...]:
    """`reason`: why the tier is not full; `missing`: why a controller is; `kills`: whether cgroups end what is left."""
    return (
        *_of_every_tier(),
        *_of_the_tier(tier, reason, landlock_abi, kills=kills, root=root),
        *_of_cgroups(tier, controllers, missing),
    )


def _wall(name: str, enforced: bool, holds: str, open_: str) -> Wall:
    return Wall(name, enforced, holds if enforced else open_)


def _of_every_tier() -> tuple[Wall, ...]:
    return (
        Wall("processes", True, "each function in processes of its own, which die with it and with the supervisor"),
        Wall("environment", True, "a function sees its own variables, code and layers, none of eventfn's or another's"),
        Wall("descriptors", True, "a function has its channel and its log, no open file of anybody else"),
        Wall("limits", True, "1024 open files, no core files, data memory of each process"),
    )


def _of_the_tier(tier: Tier, reason: str, landlock_abi: int, *, kills: bool, root: bool) -> tuple[Wall, ...]:
    full, confined = tier == "full", tier != "none"
    privileges = "no_new_privs and no capabilities" if confined else "no_new_privs"
    written = "its own /tmp" if full else "the machine's /tmp"
    network = "a loopback of its own, and beyond it what the function's `network` names"
    if tier == "landlock":
        network = "no sockets but between its own processes, unless the function's `network` asks for them"
    return (
        _wall("full sandbox", full, "namespaces, Landlock and seccomp", f"this is tier {tier}: {reason}"),
        Wall("privileges", True, f"{privileges}: setuid programs give nothing"),
        _wall(
            "files",
            confined,
            f"to read, the system's programs, its code and layers; to write, {written}; folders that it is declared",
            "a function reads and writes every file that this user may",
        ),
        _wall(
            "file modes",
            full,
            "a function changes the modes and times of no file but its own",
            "a function can change modes and times of all files of this user, which it can neither read nor write",
        ),
        _wall(
            "own /tmp",
            full,
            "gone with the environment, and no larger than ephemeral_storage",
            "the machine's, where functions see each other's files and can fill the disk",
        ),
        _wall("network", confined, network, "a function reaches what this machine does, loopback too"),
        _wall(
            "memory access",
            confined or not root,
            "no function reads or changes the memory of another one, or of eventfn",
            "eventfn runs as root, and so do functions: they can read all memory; run it as another user",
        ),
        _wall(
            "signals",
            full or (confined and landlock_abi >= _LANDLOCK_SCOPES_SIGNALS),
            "a function reaches no process but its own",
            "a function can end other processes of its user",
        ),
        _wall(
            "process list",
            full,
            "a function sees no process but its own",
            "a function can find out which processes run",
        ),
        _wall(
            "daemons",
            full or kills,
            "nothing that a function starts outlives its environment",
            "a process that leaves its session can stay when its environment ends",
        ),
        _wall(
            "system calls",
            confined,
            "seccomp: those on a list, of this architecture only",
            "every system call that this user may make",
        ),
    )


def _of_cgroups(tier: Tier, controllers: Collection[str], missing: str) -> tuple[Wall, ...]:
    return (
        _wall(
            "process count",
            tier == "full" or "pids" in controllers,
            f"{PROCESSES} processes and threads",
            f"a function can start as many processes as this user may: {missing}",
        ),
        _wall(
            "total memory",
            "memory" in controllers,
            "memory_size, and ephemeral_storage for files, over all processes of an environment",
            f"each process is limited alone; children and memfds can hold more: {missing}",
        ),
        _wall(
            "CPU share",
            "cpu" in controllers,
            "in proportion to memory_size: 1769 MB are one CPU",
            f"a busy function takes what it gets: {missing}",
        ),
    )
