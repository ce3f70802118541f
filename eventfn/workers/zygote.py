"""The supervisor's side of a zygote: one process per interpreter, asked for clones, started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from eventfn.sandbox.probe import Sandbox
from eventfn.workers.child import ground
from eventfn.workers.child.zygote import CLONE, ON_MACHINES_NETWORK, SHARED_ID, TREES

_REQUEST = struct.Struct("!BI")
_ANSWER = struct.Struct("!Ii")
_LONGEST = 65_536
_PROGRAM = Path(__file__).parent / "child" / "zygote.py"
_STARTS_WITHIN = 30.0  # seconds; 60 ms is usual, a machine under load takes longer
_MOST_TREES = 64

# glibc's: an environment that has handled a large payload keeps that memory for the next one. Giving it back and
# touching it anew costs a third of such a request.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(8 << 20), "MALLOC_TRIM_THRESHOLD_": str(16 << 20)}


class ZygoteDied(Exception):
    """The zygote ended, or never started: another one may be."""


class Tree(NamedTuple):
    """A folder of the machine, as an environment is to have it."""

    path: str
    read_only: bool
    owners: int | None = None  # a descriptor from workers/owners.py


class Kind(NamedTuple):
    """What has to be decided about a sandbox when its processes are made."""

    machines_network: bool = False
    shared_id: bool = False  # it is given folders of the machine, which know one user for all such functions


class Zygote:
    """Environments that it has cloned are the supervisor's children: its death touches none of them."""

    def __init__(self, interpreter: str, sandbox: Sandbox) -> None:
        self.interpreter = interpreter
        self._slots = itertools.count(1)
        self._asked: dict[int, asyncio.Future[tuple[int, list[int]]]] = {}
        self._loop = asyncio.get_running_loop()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        self._process = self._spawn(theirs, sandbox)
        theirs.close()
        # The zygote's first message answers slot 0.
        self._ready: asyncio.Future[tuple[int, list[int]]] = self._loop.create_future()
        self._asked[0] = self._ready
        self._loop.add_reader(self._control.fileno(), self._readable)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def dead(self) -> bool:
        return self._control.fileno() < 0

    def _spawn(self, control: socket.socket, sandbox: Sandbox) -> subprocess.Popen[bytes]:
        # A clean environment, and a session of its own: Ctrl-C at the terminal is the supervisor's to handle. No
        # preexec_fn: with one, Python would copy this whole process first.
        facts = json.dumps({"tier": sandbox.tier, "proc": sandbox.proc})
        return subprocess.Popen(
            [self.interpreter, "-I", "-S", str(_PROGRAM), str(control.fileno()), facts],
            env={"LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin", **_MALLOC},
            cwd="/",
            stdin=subprocess.DEVNULL,
            pass_fds=[control.fileno()],
            start_new_session=True,
        )

    async def started(self) -> None:
        """Raises ZygoteDied; OSError when its walls cannot be built."""
        try:
            async with asyncio.timeout(_STARTS_WITHIN):
                await asyncio.shield(self._ready)
        except TimeoutError:
            self._end()
            raise ZygoteDied(f"{self.interpreter} did not start within {_STARTS_WITHIN:.0f} s") from None

    async def clone(self, channel: int, kind: Kind) -> int:
        """The pid of a blank environment, which has a copy of the channel and waits for a byte on it. Raises
        ZygoteDied, OSError."""
        wanted = CLONE | (ON_MACHINES_NETWORK if kind.machines_network else 0) | (SHARED_ID if kind.shared_id else 0)
        pid, _ = await self._ask(wanted, [channel])
        return pid

    async def trees(self, wanted: Sequence[Tree]) -> list[int]:
        """Descriptors of mounts that belong nowhere yet. Raises ZygoteDied, OSError that names the path."""
        if os.geteuid() != 0:
            _, descriptors = await self._ask(TREES, [], json.dumps(wanted).encode())
            return descriptors
        # The zygote has left root behind, and with it many folders that only root looks into.
        return ground.trees(wanted)

    async def _ask(self, kind: int, descriptors: list[int], rest: bytes = b"") -> tuple[int, list[int]]:
        if self.dead:
            raise ZygoteDied(f"the zygote of {self.interpreter} is dead")
        slot = next(self._slots) & 0xFFFF_FFFF
        answer = self._asked[slot] = self._loop.create_future()
        try:
            # Never full: the pool has a handful of starts under way at most.
            socket.send_fds(self._control, [_REQUEST.pack(kind, slot) + rest], descriptors)
            return await asyncio.shield(answer)
        except BrokenPipeError:
            self._end()
            raise ZygoteDied(f"the zygote of {self.interpreter} died") from None
        finally:
            self._asked.pop(slot, None)

    def _readable(self) -> None:
        descriptors: list[int] = []
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, _LONGEST, _MOST_TREES)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if len(message) < _ANSWER.size:
            self._end()
            return
        slot, result = _ANSWER.unpack_from(message)
        answer = self._asked.pop(slot, None)
        if answer is None or answer.done():
            for descriptor in descriptors:
                os.close(descriptor)
        elif result < 0:
            answer.set_exception(OSError(-result, message[_ANSWER.size :].decode()))
        else:
            answer.set_result((result, descriptors))

    def close(self) -> None:
        """Ends the process, and clones of it that nobody knows of. To be called when no environment is left."""
        if not self.dead:
            # Before the zygote is waited for: until then its group's number cannot be another's.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._end()
        self._reap_strays(0)

    def _end(self) -> None:
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        self._process.kill()
        code = self._process.wait()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(ZygoteDied(f"the zygote of {self.interpreter} ended with {code}"))
                answer.exception()  # whoever waits gets it; nobody may be waiting
        self._asked.clear()

    def reap_strays(self) -> bool:
        """Whether none is left. A zygote that is killed between cloning and answering leaves a clone that nobody
        knows of. It reads the end of its channel and exits, still in the zygote's process group, since it leaves that
        only behind the gate."""
        return self._reap_strays(os.WNOHANG)

    def _reap_strays(self, options: int) -> bool:
        try:
            while os.waitpid(-self.pid, options)[0]:
                pass
        except ChildProcessError:
            return True
        return False
