"""How an environment comes by its processes: a blank sandbox made this function's own, or a copy of one whose init has
run (snapshots.py).

Belongs here: what is sent before an environment speaks for the first time. Does not: what is said afterwards
(environment.py).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from eventfn.functions.model import Function
from eventfn.sandbox import allow_list
from eventfn.sandbox.cgroups import Group
from eventfn.workers import wire
from eventfn.workers.blanks import Blank
from eventfn.workers.contract import Prepared
from eventfn.workers.gate import Gate
from eventfn.workers.runtimes import telling


class Living(Protocol):
    """The processes of an environment, as it has to do with them: process.Process, snapshots.Copy."""

    exit_code: int | None
    peak_kb: int
    ran_out_of_memory: bool

    @property
    def group(self) -> Group | None: ...

    def on_end(self, ended: Callable[[], None]) -> None: ...
    def kill(self) -> None: ...
    def ask_to_end(self) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...
    def memory_kb(self, *, kept: bool = False) -> int: ...
    def limit_cpu_to(self, memory_mb: int) -> None: ...


class Launched(NamedTuple):
    process: Living
    channel: socket.socket
    unsent: bytes = b""  # of the settings, when they were too long for the socket
    relayed: allow_list.Plan | None = None
    control: socket.socket | None = None  # of who keeps its processes, where it has extensions
    doors: socket.socket | None = None  # on which listeners come, before it is ready: the API's, those of `relayed`
    gate: Gate | None = None  # where it may be sent requests ahead


class First(NamedTuple):
    """A request that comes with the settings, so that nobody waits between an init and it."""

    frame: bytes
    until: float  # wire.Own.first_until


class Launch(Protocol):
    def __call__(self, stream: str, log_pipe: int, first: First | None = None) -> Launched:
        """`log_pipe` is the descriptor that becomes its stdout and stderr; it stays the caller's. Raises OSError."""
        ...


class Script(NamedTuple):
    """What all environments of a function are told alike, made once."""

    function: Function
    plan: allow_list.Plan | None
    settings: wire.Settings
    encoded: bytes


class Scripts:
    """Of one version of a function."""

    def __init__(self) -> None:
        self._made: dict[tuple[bool, bool], Script] = {}

    def of(self, prepared: Prepared, tier: str, *, provisioned: bool, snapshot: bool) -> Script:
        function = prepared.function
        made = self._made.get((provisioned, snapshot))
        if made is None or made.function != function:  # its network may be another one: what "aws" stands for
            # Without a network of its own there is nothing to shut it in, and its doors and hosts would be the
            # machine's.
            plan = None if isinstance(function.network, str) or tier != "full" else allow_list.plan(function.network)
            settings = telling.settings(prepared, tier, plan, provisioned=provisioned, snapshot=snapshot)
            made = Script(function, plan, settings, wire.encode(settings))
            self._made[provisioned, snapshot] = made
        return made


def in_blank(
    blank: Blank,
    trees: Sequence[int],
    script: Script,
    prepared: Prepared,
    *,
    control: socket.socket | None = None,
) -> Launch:
    """`trees` are the mounts that its settings name, `control` the snapshot's end of its socket; both are closed."""
    function, plan, settings, encoded = script

    def launch(stream: str, log_pipe: int, first: First | None = None) -> Launched:
        process, channel = blank
        doors: socket.socket | None = None
        ours: socket.socket | None = None
        gate: Gate | None = None
        handed = list(trees)
        if control is not None:
            handed.insert(0, control.detach())
        try:
            channel.setblocking(False)
            if process.group is not None:
                process.group.limit_memory(int(function.memory_size), int(function.ephemeral_storage))
            own = wire.Own(telling.own_variables(prepared, stream), None if first is None else first.until)
            frame = wire.settings(own, encoded)
            if first is not None:
                frame += first.frame
            if settings.gate:
                gate = Gate()
            if settings.extensions:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                handed.insert(0, theirs.detach())
            if plan is not None or settings.api is not None:
                doors, theirs = socket.socketpair()
                handed.insert(0, theirs.detach())
            # Nothing has been written yet, so at least the descriptors and a part of the frame find room.
            try:
                before = [log_pipe] if gate is None else [log_pipe, gate.descriptor]
                sent = socket.send_fds(channel, [frame], [*before, *handed])
            except BrokenPipeError:
                sent = len(frame)  # it is dead: its exit says why
        except BaseException:
            channel.close()
            process.kill()  # nobody else knows of it any more
            for each in (doors, ours, gate):
                if each is not None:
                    each.close()
            raise
        finally:
            for descriptor in handed:
                os.close(descriptor)
        return Launched(process, channel, frame[sent:], plan, ours, doors, gate)

    return launch
