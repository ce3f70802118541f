"""How the commands find a running node: <data>/node.json, there while the node is up, readable by its owner only."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

NAME = "node.json"


class NodeFile(msgspec.Struct, frozen=True):
    """Addresses are "host:port". `token` goes into `Authorization: Bearer <token>` of admin requests."""

    pid: int
    version: str
    started_ms: int
    admin: str
    http: str | None
    token: str
    folder: int = 0  # the data folder's inode, by which a copy of it is told; 0: not known


def write(data: Path, node: NodeFile) -> None:
    """Replaces the file in one step. Raises OSError."""
    node = msgspec.structs.replace(node, folder=data.stat().st_ino)
    temporary = data / f"{NAME}.{node.pid}"
    temporary.unlink(missing_ok=True)  # of a process with our number that was killed in between
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(node))
    temporary.replace(data / NAME)


def remove(data: Path, pid: int) -> None:
    """Removes the file if it is still this process's. Never raises: a stale file is told by its process."""
    try:
        if (found := _read(data)) is not None and found.pid == pid:
            (data / NAME).unlink()
    except OSError:
        return


def running(data: Path) -> NodeFile | None:
    """The node that has this data folder open; None when there is none, also when one was killed and left its file,
    and when the folder is a copy that was made while its original was open.

    Raises PermissionError when the file is another user's.
    """
    found = _read(data)
    if found is None or not _is_alive(found.pid) or found.folder not in (0, data.stat().st_ino):
        return None
    return found


def _read(data: Path) -> NodeFile | None:
    try:
        return msgspec.json.decode((data / NAME).read_bytes(), type=NodeFile)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it is there, and another user's
    return True
