"""Whose the files of a shared folder are, inside and outside: for eventfn that runs as root.

A function is then nobody on the machine, and the folders that it was given belong to somebody. So they are mounted with
the two mapped onto each other: what it writes belongs to the folder's owner, and it may do there what the owner may.
The kernel takes such a map in the shape of a user namespace, which a process has to hold until it has a descriptor.
"""

from __future__ import annotations

import asyncio
import os
import sys

from eventfn.sandbox import namespaces

_PROGRAM = """
import ctypes, sys
sys.exit(ctypes.CDLL(None).unshare(0x10000000) or print("held", flush=True) or sys.stdin.read(1) and None)
"""


class Owners:
    """Maps by owner, each made once and kept until `close`."""

    def __init__(self) -> None:
        self._maps: dict[tuple[int, int], asyncio.Task[int]] = {}

    async def of(self, folder: str) -> int:
        """A descriptor of the map for this folder, which stays the owners'. Raises OSError."""
        found = os.stat(folder)  # noqa: PTH116 - a folder of this machine that is about to be mounted
        owner = found.st_uid, found.st_gid
        if owner not in self._maps:
            self._maps[owner] = asyncio.create_task(_made(*owner))
        try:
            return await asyncio.shield(self._maps[owner])
        except OSError:
            self._maps.pop(owner, None)
            raise

    async def close(self) -> None:
        for task in self._maps.values():
            task.cancel()
        for made in await asyncio.gather(*self._maps.values(), return_exceptions=True):
            if isinstance(made, int):
                os.close(made)
        self._maps.clear()


async def _made(uid: int, gid: int) -> int:
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", _PROGRAM, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    try:
        if await holder.stdout.readline() != b"held\n":
            raise OSError(1, "unshare(CLONE_NEWUSER): not allowed")
        host = namespaces.shared_host_id()
        namespaces.map_ids(holder.pid, uid, gid, host, host)
        return os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        holder.kill()
        await holder.wait()
