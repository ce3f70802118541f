"""An environment's processes, seen from outside: their end, how they are brought to it, and their rest in between.

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

from eventfn.sandbox.cgroups import Group
from eventfn.workers.child import init

_SIGNALLED = range(129, 193)  # init's exit status for a handler that a signal ended: 128 and the signal

_DYING = 0.02  # seconds between two attempts to remove a group


class Process:
    """A child of the supervisor, and all that it has started. Raises OSError when it is not there any more.

    With `has_init` it is the first of a pid namespace, which tells the others; without, the first of a process group.
    """

    def __init__(self, pid: int, *, has_init: bool, group: Group | None) -> None:
        """`group` is its cgroup, which goes with it."""
        self.pid = pid
        self.group = group
        self.exit_code: int | None = None  # the handler's, as os.waitstatus_to_exitcode has it
        self.peak_kb = 0  # the most memory that it held, known at its end
        self.ran_out_of_memory = False  # and the kernel ended it; known at its end
        self._has_init = has_init
        self._on_end: Callable[[], None] | None = None
        self._gone = asyncio.Event()
        self._again: list[asyncio.TimerHandle] = []  # SIGCONTs to come
        self._pidfd = os.pidfd_open(pid)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._pidfd, self._exited)

    def on_end(self, ended: Callable[[], None]) -> None:
        """`ended` is called once, when the process has been waited for: at once if it has. The latest one only."""
        self._on_end = ended
        if self.exit_code is not None:
            ended()

    async def ended(self) -> None:
        """Until it has been waited for, and whoever wanted to know was told."""
        await self._gone.wait()

    def kill(self) -> None:
        """SIGKILL to all of it."""
        if self.exit_code is None:
            if self.group is not None:
                with contextlib.suppress(OSError):  # somebody removed the group: it dies all the same
                    self.group.lift_cpu()
            self._tell_group(signal.SIGKILL)
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def ask_to_end(self) -> None:
        """SIGTERM to the handler, which may have something to put away, and is thawed for it."""
        self.thaw()
        self._tell(init.END, signal.SIGTERM)

    def freeze(self) -> None:
        """Nothing of it runs until it is thawed."""
        self._continue_no_more()
        self._tell(init.FREEZE, signal.SIGSTOP)

    def thaw(self) -> None:
        self._continue_no_more()
        self._tell(init.THAW, signal.SIGCONT)
        if not self._has_init:  # an init does so itself
            self._again = [self._loop.call_later(after, self._continue) for after in init.CONTINUED_AGAIN]

    def _continue(self) -> None:
        self._tell(init.THAW, signal.SIGCONT)

    def _continue_no_more(self) -> None:
        while self._again:
            self._again.pop().cancel()

    def _remove(self, group: Group) -> None:
        if not group.remove():  # what an init has ended is still dying
            self._loop.call_later(_DYING, self._remove, group)

    def limit_cpu_to(self, memory_mb: int) -> None:
        """Its share of the CPU, which goes with its memory_size. After the init, as Lambda has it: a start has all the
        CPU that there is."""
        if self.group is not None:
            self.group.limit_cpu(memory_mb)

    def memory_kb(self, *, kept: bool = False) -> int:
        """The most memory that the handler has held until now, in KB; 0 when it is gone. `kept`: all the processes
        together that its keeper (child/keeper.py) has started."""
        try:
            handler = _children_of(self.pid)[0] if self._has_init else self.pid
            return sum(map(_peak_kb, _children_of(handler))) if kept else _peak_kb(handler)
        except (OSError, IndexError):
            return 0

    def _tell(self, inits: int, all_others: int) -> None:
        if self.exit_code is not None:
            return
        if self._has_init:
            signal.pidfd_send_signal(self._pidfd, inits)
        else:
            self._tell_group(all_others)

    def _tell_group(self, number: int) -> None:
        # Its number cannot be another group's: the leader has not been waited for yet.
        with contextlib.suppress(ProcessLookupError, PermissionError):  # not, or not yet, a group of its own
            os.killpg(self.pid, number)

    def _exited(self) -> None:
        """The pidfd is readable: the process has ended."""
        self._tell_group(signal.SIGKILL)  # children that it left behind, where no init did so
        self._continue_no_more()
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        try:
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:  # somebody waited for every child of this process
            status, usage = signal.SIGKILL, resource.struct_rusage([0] * 16)
        self.peak_kb = usage.ru_maxrss
        code = os.waitstatus_to_exitcode(status)
        self.exit_code = _SIGNALLED.start - 1 - code if self._has_init and code in _SIGNALLED else code
        if self.group is not None:
            with contextlib.suppress(OSError):  # likewise: whoever waits for this end must hear of it
                self.ran_out_of_memory = self.group.oom_kills() > 0
                self._remove(self.group)
        if self._on_end is not None:
            self._on_end()
        self._gone.set()


def _children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _peak_kb(pid: int) -> int:
    _, _, after = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")
    return int(after.split(maxsplit=1)[0]) if after else 0
