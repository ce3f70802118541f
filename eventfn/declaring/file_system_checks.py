"""The rules of file_system_configs: which folders of the machine a function may have, and where it may find them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from eventfn.declaring.settings import KeyPath, shown
from eventfn.functions.model import FileSystem, Function, Project

# What an environment has there is its own: the function's code, its /tmp, the machine's programs, the kernel's files.
_TAKEN = (
    *("/var/task", "/opt", "/var/runtime", "/var/bytecode"),
    *("/tmp", "/proc", "/dev", "/sys", "/etc", "/usr"),  # noqa: S108
    *("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"),
)


def mistakes(function: Function, project: Project, path: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    """The key and what is wrong with it. Looks at the disk."""
    places: dict[str, int] = {}
    for at, each in enumerate(function.file_system_configs):
        key = (*path, "file_system_configs", at)
        named_by, place = "local_mount_path", each.local_mount_path
        if place is None:
            named_by, place = "path", each.path
        if (message := _folder(each, project)) is not None:
            yield (*key, "path"), message
        elif (message := _place(each)) is not None:
            yield (*key, named_by), message
        else:
            for other, before in places.items():
                if _overlap(place, other):
                    yield (*key, named_by), f"{place} is not apart from {other}, of file_system_configs[{before}]"
            places[place] = at


def _folder(each: FileSystem, project: Project) -> str | None:
    if project.data and _overlap(each.path, project.data):
        # Whoever can write there is as good as the supervisor.
        return f"{each.path} and the data folder {project.data} lie in each other: no function may reach that one"
    if Path(each.path).exists() and not Path(each.path).is_dir():
        return f"{each.path} is not a folder"
    declares = next((path for path in _what_decides(project) if not each.read_only and _holds(each.path, path)), None)
    if declares is not None:
        # A function that writes there gives itself what it likes at the next reload, or another function's secrets.
        return f"{each.path} holds {declares}, and no function may write that: name a folder below, or read_only = true"
    return None


def _what_decides(project: Project) -> Iterator[str]:
    """What runs, and with which rights."""
    if project.file is not None:
        yield project.file
    for function in project.functions.values():
        yield function.code
        yield from function.layers
        if function.requirements is not None:
            yield function.requirements


def _place(each: FileSystem) -> str | None:
    if (given := each.local_mount_path) is not None:
        if not given.startswith("/") or os.path.normpath(given) != given:
            return f'expected an absolute path without "..", "//" or a slash at its end, got {shown(given)}'
        taken = _taken(given)
        return None if taken is None else f"{taken} is the environment's own: choose another, such as /mnt/data"
    if each.path.startswith("/tmp/"):  # noqa: S108 - a folder there is mounted into the private one
        return None
    taken = _taken(each.path)
    if taken is None:
        return None
    return f"a function has its own {taken}, so that it cannot find {each.path} there: say where with local_mount_path"


def _taken(path: str) -> str | None:
    return next((taken for taken in _TAKEN if _overlap(path, taken)), None)


def _overlap(one: str, other: str) -> bool:
    """Whether they are the same, or one lies in the other."""
    return _holds(one, other) or _holds(other, one)


def _holds(folder: str, path: str) -> bool:
    """Whether the path is the folder, or lies in it."""
    return f"{path.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")
