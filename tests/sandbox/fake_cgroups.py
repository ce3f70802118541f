"""A cgroup v2 tree in a plain folder: what the kernel does when folders come and go and files are written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from eventfn.sandbox import cgroup_folder

FILES = {
    "memory": ("memory.max", "memory.swap.max", "memory.current", "memory.stat", "memory.events", "memory.oom.group"),
    "cpu": ("cpu.max", "cpu.stat"),
    "pids": ("pids.max", "pids.current"),
}


class FakeV2:
    """`proc` stands for /proc/self, which is in the group `own` of a tree with these controllers."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, own: str, controllers: Sequence[str] = tuple(FILES)
    ) -> None:
        self.root = folder / "a cgroup"
        self.proc = folder / "proc"
        self.refused: set[str] = set()  # controllers that cannot be handed down
        self.files = {name: list(files) for name, files in FILES.items()}
        self._mkdir: Callable[..., None] = os.mkdir
        self._rmdir: Callable[..., None] = os.rmdir
        self.root.mkdir()
        self._fill(self.root, controllers)
        (self.root / "cgroup.type").unlink()
        monkeypatch.setattr(os, "mkdir", self.mkdir)
        monkeypatch.setattr(os, "rmdir", self.rmdir)
        monkeypatch.setattr(cgroup_folder, "_write", self.write)
        self.own = self.root
        for name in Path(own).parts[1:]:
            (self.own / "cgroup.subtree_control").write_text(" ".join(controllers))
            self.own /= name
            self.own.mkdir()
        self.move(os.getpid(), self.own)
        self.proc.mkdir()
        (self.proc / "cgroup").write_text(f"1:name=systemd:{own}\n0::{own}\n")
        mounted = str(self.root).replace(" ", r"\040")
        (self.proc / "mountinfo").write_text(
            "22 1 0:21 / /proc rw,relatime - proc proc rw\n"
            f"41 31 0:38 / {mounted} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
        )

    def processes(self, group: Path) -> list[int]:
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]

    def move(self, pid: int, to: Path) -> None:
        for file in self.root.rglob("cgroup.procs"):
            left = [each for each in file.read_text().split() if each != str(pid)]
            file.write_text("\n".join([*left, str(pid)] if file.parent == to else left))

    def mkdir(self, path: str | Path, mode: int = 0o777) -> None:
        self._mkdir(path, mode)
        path = Path(path)
        if self.root in path.parents:
            self._fill(path, (path.parent / "cgroup.subtree_control").read_text().split())

    def rmdir(self, path: str | Path) -> None:
        path = Path(path)
        if self.root not in path.parents:
            self._rmdir(path)
            return
        if any(child.is_dir() for child in path.iterdir()) or self.processes(path):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        for file in path.iterdir():
            file.unlink()
        self._rmdir(path)

    def write(self, file: Path, text: str) -> None:
        if file.name == "cgroup.procs":
            if (file.parent / "cgroup.subtree_control").read_text() and file.parent != self.root:
                raise OSError(errno.EBUSY, f"write({file}, {text}): {os.strerror(errno.EBUSY)}")
            self.move(int(text) or os.getpid(), file.parent)
            return
        assert file.name == "cgroup.subtree_control"
        name = text.removeprefix("+")
        if name in self.refused:
            raise OSError(errno.EINVAL, f"write({file}, {text}): {os.strerror(errno.EINVAL)}")
        if self.processes(file.parent) and file.parent != self.root:
            raise OSError(errno.EBUSY, f"write({file}, {text}): {os.strerror(errno.EBUSY)}")
        file.write_text(" ".join({*file.read_text().split(), name}))

    def _fill(self, group: Path, controllers: Sequence[str]) -> None:
        (group / "cgroup.controllers").write_text(" ".join(controllers))
        for name in ("cgroup.subtree_control", "cgroup.procs", "cgroup.kill"):
            (group / name).write_text("")
        (group / "cgroup.type").write_text("domain\n")
        for name in controllers:
            for file in self.files[name]:
                (group / file).write_text("")
