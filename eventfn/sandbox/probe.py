"""What is enforced here and what is not, as data: printed by `run` and `status`, so that nobody believes in a wall
that does not stand."""

from __future__ import annotations

import os
from typing import NamedTuple


class Wall(NamedTuple):
    name: str
    enforced: bool
    meaning: str  # one line for the operator: what holds, or what a function can still do


def probe() -> tuple[Wall, ...]:
    root = os.geteuid() == 0
    hidden = "no function reads or changes the memory of another one, or of eventfn"
    if root:
        hidden = "eventfn runs as root, and so do functions: they can read all memory; run it as another user"
    return (
        Wall("processes", True, "each function in processes of its own, which die with it and with the supervisor"),
        Wall("environment", True, "a function sees its own variables, code and layers, none of eventfn's or another's"),
        Wall("descriptors", True, "a function has its channel and its log, no open file of anybody else"),
        Wall("privileges", True, "no_new_privs: setuid programs give nothing"),
        Wall("memory access", not root, hidden),
        Wall("limits", True, "1024 open files, no core files; data memory of each process, not of all together"),
        Wall("mount namespace", False, "a function reads and writes every file that this user may"),
        Wall("network namespace", False, "a function reaches every address that this machine does, loopback too"),
        Wall("pid namespace", False, "a function sees and may signal processes of this user; its daemons may stay"),
        Wall("Landlock", False, "no second line for files and ports"),
        Wall("seccomp", False, "every system call that this user may make"),
        Wall("cgroups", False, "no share of CPU, no total of memory or processes over a function's children"),
    )
