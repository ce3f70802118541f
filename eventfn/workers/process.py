"""An environment's processes, seen from outside: their end, and how they are brought to it.

Belongs here: what is done with a process id. Does not: what is said over the channel (environment.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path


class Process:
    """A child of the supervisor, and all that it has started. Raises OSError when it is not there any more."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.exit_code: int | None = None  # as os.waitstatus_to_exitcode has it
        self.peak_kb = 0  # the most memory that it held, known at its end
        self._ended: Callable[[], None] = lambda: None
        self._pidfd = os.pidfd_open(pid)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._pidfd, self._exited)

    def on_end(self, ended: Callable[[], None]) -> None:
        """`ended` is called once, when the process has been waited for: at once if it has."""
        self._ended = ended
        if self.exit_code is not None:
            ended()

    def kill(self) -> None:
        """SIGKILL to all of it."""
        if self.exit_code is None:
            self._kill_group()
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def memory_kb(self) -> int:
        """The most memory that it has held until now, in KB; 0 when it is gone."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0
        _, _, after = status.partition("VmHWM:")
        return int(after.split(maxsplit=1)[0]) if after else 0

    def _kill_group(self) -> None:
        # Its number cannot be another group's: the leader has not been waited for yet.
        with contextlib.suppress(ProcessLookupError, PermissionError):  # not yet a group of its own
            os.killpg(self.pid, signal.SIGKILL)

    def _exited(self) -> None:
        """The pidfd is readable: the process has ended."""
        self._kill_group()  # children that it left behind
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        try:
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:  # somebody waited for every child of this process
            status, usage = signal.SIGKILL, resource.struct_rusage([0] * 16)
        self.peak_kb = usage.ru_maxrss
        self.exit_code = os.waitstatus_to_exitcode(status)
        self._ended()
