"""What can keep functions in on this machine, found by trying at start-up: the tier, of which walls.py says what it is
worth, the cgroups on top of it, and what the operator can do where something is missing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal, NamedTuple

from eventfn.sandbox import walls
from eventfn.sandbox.cgroups import Cgroups, NoCgroups
from eventfn.sandbox.walls import Tier, Wall

Proc = Literal["pid", "none"]
_ORDER: tuple[Tier, ...] = ("none", "landlock", "full")
_PROGRAM = Path(__file__).parent / "trial.py"
_PATIENCE = 30.0  # seconds; 60 ms is usual, a machine under load takes longer


class TooWeak(Exception):
    """This machine gives less than the operator accepts. The text says what is missing and how to accept less."""


class Sandbox(NamedTuple):
    """What was found."""

    tier: Tier
    reason: str  # why it is not full: the call that failed, and what the operator can do about it
    landlock_abi: int  # 0: no Landlock
    proc: Proc  # whether an environment can have a /proc; pid: with subset=pid
    cgroups: Cgroups | None
    no_cgroups: str  # why there are none

    def lowered(self, tier: Tier) -> Sandbox:
        """This machine with a lower tier, for tests of that one."""
        assert _ORDER.index(tier) <= _ORDER.index(self.tier), f"{tier} is more than {self.tier}: {self.reason}"
        return self if tier == self.tier else self._replace(tier=tier, reason="a lower tier was asked for")

    def require(self, least: Tier) -> None:
        """Raises TooWeak."""
        if _ORDER.index(self.tier) < _ORDER.index(least):
            raise TooWeak(
                f'"{least}" asks for more than this machine gives, which is "{self.tier}": {self.reason}. '
                f'To run functions with less around them, write sandbox = "{self.tier}" under [workers] in eventfn.toml'
            )

    def walls(self) -> tuple[Wall, ...]:
        held = () if self.cgroups is None else self.cgroups.controllers
        missing = self.no_cgroups or "the cgroup of eventfn has no controller for it"
        kills = self.cgroups is not None and self.cgroups.kills
        return walls.of(self.tier, self.reason, self.landlock_abi, held, missing, kills=kills, root=os.geteuid() == 0)


class Probe:
    """Made first thing in a process, before it has a child: cgroups are looked for at once, in 2 ms. The trial of the
    rest runs beside whatever starts next, for 60 ms."""

    def __init__(self) -> None:
        self._cgroups: Cgroups | None = None
        self._no_cgroups = ""
        try:
            self._cgroups = Cgroups.find()
        except NoCgroups as none:
            self._no_cgroups = str(none)
        self._trial = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_PROGRAM)],
            env={"LANG": "C.UTF-8"},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def sandbox(self) -> Sandbox:
        """Blocks until the trial is over. To be called once."""
        try:
            said, errors = self._trial.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            self._trial.kill()
            said, errors = "", f"no answer within {_PATIENCE:.0f} s"
        if self._trial.returncode == 0:
            return judge(said, self._cgroups, self._no_cgroups)
        why = errors.strip().rpartition("\n")[2] or f"exit code {self._trial.returncode}"
        reason = f"`{sys.executable} -I -S {_PROGRAM}`, which tries what this machine allows, failed: {why}"
        return Sandbox("none", reason, 0, "none", self._cgroups, self._no_cgroups)

    def close(self) -> None:
        """Last of all: gives back the place of the cgroups, too."""
        with self._trial:
            self._trial.kill()
        if self._cgroups is not None:
            self._cgroups.close()


def judge(trial: str, cgroups: Cgroups | None, no_cgroups: str, proc: Path = Path("/proc")) -> Sandbox:
    """`trial`: what trial.py printed."""
    found = {name: value for name, _, value in (line.partition(" ") for line in trial.splitlines())}
    tier: Tier = "full"
    reason = ""
    if found["landlock"] == "0":
        tier, reason = "none", f"this kernel has no Landlock, or it is switched off: {_no_landlock(proc)}"
    elif found["confine"]:
        tier, reason = "none", found["confine"].partition(" ")[2]
    elif found["namespaces"]:
        code, _, call = found["namespaces"].partition(" ")
        tier, reason = "landlock", f"{call}: {_no_namespaces(int(code), call, proc)}"
    proc_kind: Proc = "pid" if found["proc"] == "pid" else "none"
    return Sandbox(tier, reason, int(found["landlock"]), proc_kind, cgroups, no_cgroups)


# --- what the operator can do ----------------------------------------------------------------------------------------


def _no_landlock(proc: Path) -> str:
    if _filtered(proc):
        return f"{_FILTER}seccomp=unconfined, or a newer one, whose profile lets Landlock's calls pass"
    return "it takes Linux 5.13, and `landlock` in /sys/kernel/security/lsm, which the boot parameter lsm= sets"


def _no_namespaces(code: int, call: str, proc: Path) -> str:
    denied, root = code in (errno.EPERM, errno.EACCES), os.geteuid() == 0
    if code == errno.EACCES and call.startswith("open_tree("):  # an interpreter in somebody else's home, mostly
        return "the user of eventfn must be allowed to open this folder, and all above it"
    if denied and _filtered(proc):
        return f"{_FILTER}seccomp=unconfined --security-opt apparmor=unconfined"
    if denied and (profile := _read(proc / "self/attr/current")).endswith("(enforce)"):
        return f"the AppArmor profile {profile} denies it; with Docker: --security-opt apparmor=unconfined"
    if denied and not root and _read(proc / "sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return (
            "AppArmor keeps ordinary users from it: sysctl kernel.apparmor_restrict_unprivileged_userns=0, or a "
            f"profile for {os.path.realpath(sys.executable)} that has `userns,`, or run eventfn as root"
        )
    if denied and not root and _read(proc / "sys/kernel/unprivileged_userns_clone") == "0":
        return "ordinary users may not: sysctl kernel.unprivileged_userns_clone=1, or run eventfn as root"
    if code == errno.ENOSPC:
        return "no more namespaces may be made: raise the sysctls user.max_*_namespaces"
    if denied:
        return "what eventfn runs in denies it: a container, a chroot or a security module"
    return "this kernel was built without it"


_FILTER = "a seccomp filter around eventfn denies it, as Docker's does; with Docker: --security-opt "


def _filtered(proc: Path) -> bool:
    return "\nSeccomp:\t2\n" in _read(proc / "self/status")


def _read(file: Path) -> str:
    """Nothing, where there is no such file: most of them are of one distribution only."""
    with contextlib.suppress(OSError):
        return file.read_text().strip("\0\n ")
    return ""
