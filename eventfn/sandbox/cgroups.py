"""Control groups: they hold what no limit of a process can, the memory, the CPU share and the number of processes of
all of an environment together. Used by the supervisor; plain reads and writes of the kernel's files (cgroups(7)).

One group for each environment, made while a blank one is made, with its limits set when it becomes a function's:

    <the node's folder, see cgroup_folder.py>/<slot>        v2: one; v1: one in the tree of each controller
"""

# Paths are strings here: a Path costs as much as the call.
# ruff: noqa: PTH102, PTH106
from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import NamedTuple

from eventfn.sandbox import cgroup_folder
from eventfn.sandbox.cgroup_folder import CONTROLLERS, NoCgroups

__all__ = ["CONTROLLERS", "Cgroups", "Group", "MemoryUsed", "NoCgroups"]

PROCESSES = 1024  # processes and threads of an environment, as in Lambda
_MB = 1_048_576
_MEMORY_OF_ONE_CPU = 1769  # MB, Lambda's proportion
_PERIOD = 20_000  # us. Of the kernel's usual 100 ms the smallest functions stand still for 93 in a row.
_LEAST_QUOTA = 1_000  # us: the kernel takes no less
_OOM_KILLS = re.compile(rb"^oom_kill (\d+)", re.MULTILINE)


class MemoryUsed(NamedTuple):
    """Bytes. The kernel counts files in a tmpfs, memfds and memory shared between processes as one: `shared`."""

    processes: int
    shared: int


class _Names(NamedTuple):
    """What the two versions call the same things."""

    required: dict[str, tuple[str, ...]]  # controller -> files without which it is of no use
    fixed: dict[str, str]  # file -> what is written when a group is made; left out where the kernel has no such file
    memory_limits: tuple[str, ...]  # the order in which they shrink: memory with swap is never less than memory
    sockets: str  # what is under way in TCP and UDP, where that is no part of the memory; empty where it is
    cpu_limit: tuple[str, str]  # file, format of the quota
    no_quota: str
    memory_total: str
    memory_split: re.Pattern[bytes]  # of memory.stat: MemoryUsed's two, in either order
    oom_kills: str
    door: str
    kill: str  # ends everything in a group; empty where there is no such file


_V1 = _Names(
    required={
        "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat", "memory.oom_control"),
        "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us"),
        "pids": ("pids.max",),
    },
    fixed={"cpu.cfs_period_us": str(_PERIOD), "pids.max": str(PROCESSES)},
    memory_limits=("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    sockets="memory.kmem.tcp.limit_in_bytes",
    cpu_limit=("cpu.cfs_quota_us", "{}"),
    no_quota="-1",
    memory_total="memory.usage_in_bytes",
    memory_split=re.compile(rb"^(rss|shmem) (\d+)", re.MULTILINE),
    oom_kills="memory.oom_control",
    door="tasks",
    kill="",
)
_V2 = _Names(
    required={
        "memory": ("memory.max", "memory.current", "memory.stat", "memory.events"),
        "cpu": ("cpu.max",),
        "pids": ("pids.max",),
    },
    # oom.group: an environment that has lost one process to the limit is of no use, so all of it goes.
    fixed={"memory.swap.max": "0", "memory.oom.group": "1", "pids.max": str(PROCESSES)},
    memory_limits=("memory.max",),
    sockets="",
    cpu_limit=("cpu.max", f"{{}} {_PERIOD}"),
    no_quota="max",
    memory_total="memory.current",
    memory_split=re.compile(rb"^(anon|shmem) (\d+)", re.MULTILINE),
    oom_kills="memory.events",
    door="cgroup.procs",
    kill="cgroup.kill",
)


class Cgroups:
    """A node's groups. What is not among `controllers` is not held, and nothing is written for it."""

    def __init__(self, folder: cgroup_folder.Folder) -> None:
        names = _V1 if folder.version == 1 else _V2
        there = _files_of_a_group(set(folder.paths.values()))
        self.version = folder.version
        self.controllers = tuple(
            name for name in CONTROLLERS if name in folder.paths and there.issuperset(names.required[name])
        )
        self.kills = names.kill in there  # Linux 5.14
        if not self.controllers:
            cgroup_folder.release(folder)
            raise NoCgroups("this kernel's controllers lack files that eventfn needs: Linux 4.13 has them all")
        self._folder = folder
        self._names = names._replace(
            fixed={file: text for file, text in names.fixed.items() if file in there},
            memory_limits=tuple(file for file in names.memory_limits if file in there),
            sockets=names.sockets if names.sockets in there else "",
            kill=names.kill if self.kills else "",
        )

    @classmethod
    def find(cls, proc: Path = Path("/proc/self")) -> Cgroups:
        """Takes a folder for the node's groups, and removes those of dead nodes. To be called once, and before this
        process has children: with v2 it may have to move into a group of its own. Raises NoCgroups."""
        try:
            return cls(cgroup_folder.take(proc))
        except OSError as error:
            raise NoCgroups(str(error)) from error

    def create(self, slot: int) -> Group:
        """Raises OSError."""
        return Group(self._names, {name: f"{self._folder.paths[name]}/{slot}" for name in self.controllers})

    def close(self) -> None:
        """To be called when all groups have been removed; one that is left is removed at the next start."""
        cgroup_folder.release(self._folder)


def _files_of_a_group(folders: set[Path]) -> set[str]:
    """By making one: kernels differ in what they were built with."""
    files: set[str] = set()
    for folder in folders:
        trial = folder / "trial"
        trial.mkdir()
        files.update(path.name for path in trial.iterdir())
        trial.rmdir()
    return files


class Group:
    """One environment's. Raises OSError, which names the call and its arguments, where the kernel refuses a write."""

    def __init__(self, names: _Names, paths: dict[str, str]) -> None:
        self._names = names
        self.folders = tuple(dict.fromkeys(paths.values()))  # one with v2
        self._memory, self._cpu = paths.get("memory"), paths.get("cpu")
        self._most = 0  # bytes that processes may hold
        self._limited = 0  # bytes that processes and files may take
        self._total = -1
        try:
            self._make(paths)
        except OSError:
            self.remove()
            raise

    def _make(self, paths: dict[str, str]) -> None:
        for folder in self.folders:
            try:
                os.mkdir(folder)
            except OSError as error:
                raise OSError(error.errno, f"mkdir({folder}): {error.strerror}") from error
        for file, text in self._names.fixed.items():
            controller = file.partition(".")[0]
            if controller in paths:
                _write(f"{paths[controller]}/{file}", text)
        if self._memory is not None:
            # Kept open: it is read for every busy environment several times a second.
            self._total = os.open(f"{self._memory}/{self._names.memory_total}", os.O_RDONLY | os.O_CLOEXEC)

    def doors(self) -> list[int]:
        """Open descriptors, which the caller closes: a process of one thread that writes "0" to each is in the group,
        whatever its own rights. With v1 that takes 60 us. To move a process from outside takes the kernel 7 to 14 ms
        when no group has changed for a while, and nothing on the machine can fork or end meanwhile."""
        return [os.open(f"{folder}/{self._names.door}", os.O_WRONLY | os.O_CLOEXEC) for folder in self.folders]

    def limit_memory(self, memory_mb: int, ephemeral_mb: int) -> None:
        """Of all processes, and the files in their /tmp, which the kernel counts as memory: hence the sum. What
        processes may hold of it is for `over_memory` to say. No swap besides."""
        if self._memory is None:
            return
        self._most = memory_mb * _MB
        total = (memory_mb + ephemeral_mb) * _MB
        grows = 0 < self._limited < total
        for file in reversed(self._names.memory_limits) if grows else self._names.memory_limits:
            _write(f"{self._memory}/{file}", str(total))
        if self._names.sockets:
            _write(f"{self._memory}/{self._names.sockets}", str(self._most))
        self._limited = total

    def limit_cpu(self, memory_mb: int) -> None:
        """A share in proportion to memory_size. Lambda lets a function start with more, so this may come after init."""
        if self._cpu is None:
            return
        file, form = self._names.cpu_limit
        quota = max(_LEAST_QUOTA, _PERIOD * memory_mb // _MEMORY_OF_ONE_CPU)
        _write(f"{self._cpu}/{file}", form.format(quota))

    def lift_cpu(self) -> None:
        """Before it is killed: with a small share it takes seconds to die, since giving memory back is its own work."""
        if self._cpu is None:
            return
        file, form = self._names.cpu_limit
        _write(f"{self._cpu}/{file}", form.format(self._names.no_quota))

    def over_memory(self) -> bool:
        """Whether processes hold more than memory_size. One read of 3 us, mostly: what is held in total, with files and
        caches, is nearly always less."""
        if self._total < 0 or int(os.pread(self._total, 32, 0)) <= self._most:
            return False
        return self.memory_used().processes > self._most

    def memory_used(self) -> MemoryUsed:
        """Nothing, where memory is not held."""
        if self._memory is None:
            return MemoryUsed(0, 0)
        found = dict(self._names.memory_split.findall(_read(f"{self._memory}/memory.stat")))
        shared = int(found.pop(b"shmem"))
        (processes,) = found.values()
        return MemoryUsed(int(processes), shared)

    def oom_kills(self) -> int:
        """How many processes were killed for the memory limit. To be asked before `remove`."""
        if self._memory is None:
            return 0
        found = _OOM_KILLS.search(_read(f"{self._memory}/{self._names.oom_kills}"))
        return 0 if found is None else int(found[1])

    def remove(self) -> bool:
        """Whether it is gone. Not yet, while a process in it is still dying: to be tried again a little later. Where
        `Cgroups.kills`, what is left in it ends, if it has left its session and its parents or not."""
        if self._total >= 0:
            os.close(self._total)
            self._total = -1
        gone = True
        for folder in self.folders:
            try:
                os.rmdir(folder)
            except FileNotFoundError:
                pass  # the last time already
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                gone = False
                if self._names.kill:
                    _write(f"{folder}/{self._names.kill}", "1")
        return gone


def _read(path: str) -> bytes:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, 16_384)  # the kernel gives all of a file of this kind at once
    finally:
        os.close(file)


def _write(path: str, text: str) -> None:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(file, text.encode())
        finally:
            os.close(file)
    except OSError as error:
        raise OSError(error.errno, f"write({path}, {text}): {error.strerror}") from error
