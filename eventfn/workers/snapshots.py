"""snap_start, seen from outside: an environment whose init has run, and the copies that it makes of itself.

All of a function's copies live in the one sandbox of their original. It is limited to what they may hold together, is
frozen while none of them has anything to do, and ends with all of them. Whatever the original says is a function's
word: a number that is none of a copy's is not listened to, and who does not end when told to is ended with the sandbox.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
from collections.abc import Callable

from eventfn.sandbox.cgroups import Group
from eventfn.workers import wire
from eventfn.workers.child import snapshot
from eventfn.workers.contract import Prepared
from eventfn.workers.environment import Environment
from eventfn.workers.launching import First, Launched
from eventfn.workers.runtimes import telling

_OBEYS_WITHIN = 1.0  # seconds until a copy that was told to end has ended, or all end
_KILLED = -9
_STATUSES = range(1 - signal.NSIG, 256)  # as os.waitstatus_to_exitcode has them
_NO_STATUS = 256


class SnapshotDied(Exception):
    """Another one can be taken."""


class Snapshot:
    """The original's process and control socket, and its copies."""

    def __init__(self, prepared: Prepared, original: Environment, control: socket.socket) -> None:
        assert original.process is not None
        self.prepared = prepared
        self.dead = False
        self.original = original
        self._process = original.process
        self._control = control
        self._copies: dict[int, Copy] = {}
        self._awake: set[Copy] = set()
        self._frozen = False
        self._numbers = itertools.count(1)
        self._loop = asyncio.get_running_loop()
        control.setblocking(False)
        self._loop.add_reader(control.fileno(), self._readable)
        original.gone.add_done_callback(lambda _: self._ended())
        self.rest_if_idle()

    @property
    def group(self) -> Group | None:
        return self._process.group

    def copy(self, stream: str, log_pipe: int, first: First | None = None, *, prepared: Prepared) -> Launched:
        """A launching.Launch, but for what it is told. Raises SnapshotDied."""
        own = wire.Own(telling.own_variables(prepared, stream), None if first is None else first.until)
        ours, theirs = socket.socketpair()
        number = next(self._numbers) & 0xFFFF_FFFF
        made = Copy(number, self)
        with theirs:
            try:
                self.wake(made)
                request = snapshot.REQUEST.pack(snapshot.COPY, number) + wire.encode(own)
                socket.send_fds(self._control, [request], [theirs.fileno(), log_pipe])
                ours.setblocking(False)
                if first is not None:
                    ours.send(first.frame)  # the channel is empty, and has room for it
            except OSError as error:  # it does not read, or is gone, which is not known here yet
                ours.close()
                self.dead = True
                self._process.kill()
                raise SnapshotDied(
                    f"the environment that those of {self.prepared.function.name} are copied from died: {error}"
                ) from error
        self._copies[number] = made
        self._limit()
        return Launched(made, ours)

    def tell(self, number: int, what: int) -> None:
        try:
            self._control.send(snapshot.REQUEST.pack(what, number))
        except OSError:  # it does not read, or is gone
            self._process.kill()

    def wake(self, copy: Copy) -> None:
        if self._frozen:
            self._frozen = False
            self._process.thaw()
        self._awake.add(copy)

    def rest(self, copy: Copy) -> None:
        self._awake.discard(copy)
        self.rest_if_idle()

    def rest_if_idle(self) -> None:
        if not self._awake and not self._frozen and not self.dead:
            self._frozen = True
            self._process.freeze()

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """No copy of it is wanted any more."""
        self.original.end()

    def _ended(self) -> None:
        """The original is gone, and with it everything in its sandbox."""
        self.dead = True
        self._loop.remove_reader(self._control.fileno())
        self._control.close()
        for copy in list(self._copies.values()):
            self._gone(copy, _KILLED, 0)

    def _readable(self) -> None:
        try:
            message = self._control.recv(snapshot.LONGEST)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        number, status, most_kb = 0, _NO_STATUS, 0
        if len(message) == snapshot.ENDED.size:
            number, status, most_kb = snapshot.ENDED.unpack(message)
        if status not in _STATUSES:
            self._loop.remove_reader(self._control.fileno())
            self._process.kill()
            return
        if (copy := self._copies.get(number)) is not None:
            self._gone(copy, status, most_kb)

    def _gone(self, copy: Copy, status: int, most_kb: int) -> None:
        self._copies.pop(copy.number)
        self._awake.discard(copy)
        if not self.dead:
            self._limit()
            self.rest_if_idle()
        copy.has_ended(status, most_kb, killed_for_memory=self._process.ran_out_of_memory)

    def _limit(self) -> None:
        """What all of them may hold together: the original counts as one more."""
        if self.group is None:
            return
        function = self.prepared.function
        many = len(self._copies) + 1
        try:
            self.group.limit_memory(int(function.memory_size) * many, int(function.ephemeral_storage))
            self.group.limit_cpu(int(function.memory_size) * many)
        except OSError:
            # Those that are left hold more than they may, which cgroups v2 answer with a kill and v1 with EBUSY.
            self._process.kill()


class Copy:
    """A launching.Living."""

    def __init__(self, number: int, snapshot: Snapshot) -> None:
        self.number = number
        self.exit_code: int | None = None
        self.peak_kb = 0
        self.ran_out_of_memory = False
        self._snapshot = snapshot
        self._on_end: Callable[[], None] | None = None
        self._obeys: asyncio.TimerHandle | None = None

    @property
    def group(self) -> Group | None:
        return self._snapshot.group

    def on_end(self, ended: Callable[[], None]) -> None:
        self._on_end = ended
        if self.exit_code is not None:
            ended()

    def has_ended(self, status: int, most_kb: int, *, killed_for_memory: bool) -> None:
        self.exit_code, self.peak_kb, self.ran_out_of_memory = status, most_kb, killed_for_memory
        if self._obeys is not None:
            self._obeys.cancel()
        if self._on_end is not None:
            self._on_end()

    def kill(self) -> None:
        if self.exit_code is not None:
            return
        self._snapshot.wake(self)
        self._snapshot.tell(self.number, snapshot.KILL)
        if self._obeys is None:
            self._obeys = asyncio.get_running_loop().call_later(_OBEYS_WITHIN, self._snapshot.kill)

    def ask_to_end(self) -> None:
        self._snapshot.wake(self)
        self._snapshot.tell(self.number, snapshot.END)

    def freeze(self) -> None:
        self._snapshot.rest(self)

    def thaw(self) -> None:
        self._snapshot.wake(self)

    def memory_kb(self, *, kept: bool = False) -> int:
        return 0  # known at its end

    def limit_cpu_to(self, memory_mb: int) -> None:
        """Its share is the sandbox's, which grows with each copy."""
