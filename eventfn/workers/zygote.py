"""The supervisor's side of a zygote: one process per interpreter, asked for clones, started again when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import struct
import subprocess
from pathlib import Path

_REQUEST = struct.Struct("!I")
_ANSWER = struct.Struct("!Ii")
_PROGRAM = Path(__file__).parent / "child" / "zygote.py"
_STARTS_WITHIN = 30.0  # seconds; 60 ms is usual, a machine under load takes longer

# glibc's: an environment that has handled a large payload keeps that memory for the next one. Giving it back and
# touching it anew costs a third of such a request.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(8 << 20), "MALLOC_TRIM_THRESHOLD_": str(16 << 20)}


class ZygoteDied(Exception):
    """The zygote ended, or never started: another one may be."""


class Zygote:
    """Environments that it has cloned are the supervisor's children: its death touches none of them."""

    def __init__(self, interpreter: str) -> None:
        self.interpreter = interpreter
        self._slots = itertools.count(1)
        self._asked: dict[int, asyncio.Future[int]] = {}
        self._loop = asyncio.get_running_loop()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        self._process = self._spawn(theirs)
        theirs.close()
        self._ready: asyncio.Future[int] = self._loop.create_future()
        self._asked[0] = self._ready  # the zygote's first message answers slot 0
        self._loop.add_reader(self._control.fileno(), self._readable)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def dead(self) -> bool:
        return self._control.fileno() < 0

    def _spawn(self, control: socket.socket) -> subprocess.Popen[bytes]:
        # A clean environment, and a session of its own: Ctrl-C at the terminal is the supervisor's to handle. No
        # preexec_fn: with one, Python would copy this whole process first.
        return subprocess.Popen(
            [self.interpreter, "-I", "-S", str(_PROGRAM), str(control.fileno())],
            env={"LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin", **_MALLOC},
            cwd="/",
            stdin=subprocess.DEVNULL,
            pass_fds=[control.fileno()],
            start_new_session=True,
        )

    async def started(self) -> None:
        """Raises ZygoteDied."""
        try:
            async with asyncio.timeout(_STARTS_WITHIN):
                await asyncio.shield(self._ready)
        except TimeoutError:
            self._end()
            raise ZygoteDied(f"{self.interpreter} did not start within {_STARTS_WITHIN:.0f} s") from None

    async def clone(self, channel: int, log_pipe: int) -> int:
        """The pid of a new environment, which has copies of the two descriptors. Raises ZygoteDied, OSError."""
        if self.dead:
            raise ZygoteDied(f"the zygote of {self.interpreter} is dead")
        slot = next(self._slots)
        pid: int
        answer = self._asked[slot] = self._loop.create_future()
        try:
            # Never full: the pool has a handful of starts under way at most.
            socket.send_fds(self._control, [_REQUEST.pack(slot)], [channel, log_pipe])
            pid = await asyncio.shield(answer)
        except BrokenPipeError:
            self._end()
            raise ZygoteDied(f"the zygote of {self.interpreter} died") from None
        finally:
            self._asked.pop(slot, None)
        if pid < 0:
            raise OSError(-pid, f"clone of the zygote of {self.interpreter}: {os.strerror(-pid)}")
        return pid

    def _readable(self) -> None:
        try:
            message = self._control.recv(_ANSWER.size)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if len(message) != _ANSWER.size:
            self._end()
            return
        slot: int
        pid: int
        slot, pid = _ANSWER.unpack(message)
        answer = self._asked.pop(slot, None)
        if answer is not None and not answer.done():
            answer.set_result(pid)

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
        only once it has settings."""
        return self._reap_strays(os.WNOHANG)

    def _reap_strays(self, options: int) -> bool:
        try:
            while os.waitpid(-self.pid, options)[0]:
                pass
        except ChildProcessError:
            return True
        return False
