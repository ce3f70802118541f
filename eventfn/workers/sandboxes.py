"""Where sandboxes come from: a zygote and its blanks for each interpreter, and what of the machine is mounted in one.

Belongs here: which sandbox a function needs. Does not: when it needs one (pool.py), what it does in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from typing import NamedTuple

from eventfn.clock import Clock
from eventfn.sandbox import allow_list
from eventfn.sandbox.probe import Sandbox
from eventfn.workers import launching
from eventfn.workers.blanks import Blanks
from eventfn.workers.contract import Prepared
from eventfn.workers.owners import Owners
from eventfn.workers.runtimes import telling
from eventfn.workers.zygote import Kind, Tree, Zygote, ZygoteDied


class _Source(NamedTuple):
    zygote: Zygote
    blanks: Blanks


class Sandboxes:
    def __init__(self, sandbox: Sandbox, clock: Clock) -> None:
        self._sandbox = sandbox
        self._clock = clock
        self._owners = Owners()
        self._scripting = asyncio.Lock()
        self._sources: dict[str, asyncio.Task[_Source]] = {}  # by interpreter
        self._blanks: list[Blanks] = []
        self._zygotes: list[Zygote] = []  # dead ones too, while a clone of theirs may be left

    async def launch(
        self,
        prepared: Prepared,
        scripts: launching.Scripts,
        *,
        provisioned: bool = False,
        control: socket.socket | None = None,
    ) -> launching.Launch:
        """A sandbox that waits for this function, and what is to be mounted in it. Raises ZygoteDied, OSError."""
        network, tier = prepared.function.network, self._sandbox.tier
        if (why := allow_list.unenforceable(network, tier) or _unreachable(prepared, tier)) is not None:
            raise OSError(errno.ENOTSUP, why)
        script = scripts.of(prepared, tier, provisioned=provisioned, snapshot=control is not None)
        source = await self._source(prepared.interpreter)
        shared = bool(prepared.function.file_system_configs) and os.geteuid() == 0
        trees: list[int] = []
        if tier == "full":
            trees = await source.zygote.trees([await self._tree(place) for place in telling.places(prepared, tier)])
        try:
            on_machines_network = network == "egress" or (tier == "none" and not isinstance(network, str))
            kind = Kind(on_machines_network, shared)
            blank = await source.blanks.take(kind, for_a_program=prepared.is_program)
        except BaseException:
            for descriptor in trees:
                os.close(descriptor)
            raise
        return launching.in_blank(blank, trees, script, prepared, control=control)

    async def warm(self, prepared: Prepared, scripts: launching.Scripts) -> None:
        """Has blanks of its kind ready soon, and what they are to be told."""
        with contextlib.suppress(ZygoteDied, OSError):  # whoever needs it tries again, and is told
            await self._source(prepared.interpreter)
        async with self._scripting:  # one a turn of the loop: a node may have a thousand functions
            await asyncio.sleep(0)
            scripts.of(prepared, self._sandbox.tier, provisioned=False, snapshot=prepared.function.snap_start)

    async def _tree(self, place: telling.Place) -> Tree:
        owners = await self._owners.of(place.path) if place.shared and os.geteuid() == 0 else None
        return Tree(place.path, place.read_only, owners)

    async def _source(self, interpreter: str) -> _Source:
        """With a living zygote; one start for all who wait. Raises ZygoteDied, OSError."""
        task = self._sources.get(interpreter)
        if task is not None and task.done() and (task.cancelled() or task.exception() or task.result().zygote.dead):
            task = None
        if task is None:
            task = self._sources[interpreter] = asyncio.create_task(self._start_source(interpreter))
        return await asyncio.shield(task)

    async def _start_source(self, interpreter: str) -> _Source:
        for blanks in [each for each in self._blanks if each.orphaned]:
            await blanks.close()
            self._blanks = [each for each in self._blanks if each is not blanks]
        zygote = Zygote(interpreter, self._sandbox)
        self._zygotes = [old for old in self._zygotes if not (old.dead and old.reap_strays())]
        self._zygotes.append(zygote)
        await zygote.started()
        blanks = Blanks(zygote, self._sandbox, self._clock)
        self._blanks.append(blanks)
        return _Source(zygote, blanks)

    async def close(self) -> None:
        """Ends what nobody took, and the zygotes. To be called when no environment is left."""
        tasks = list(self._sources.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(blanks.close() for blanks in self._blanks))
        await self._owners.close()
        for zygote in self._zygotes:
            zygote.close()


def _unreachable(prepared: Prepared, tier: str) -> str | None:
    """Why its processes could not speak with the supervisor; None: they can."""
    if tier != "landlock" or not prepared.speaks_runtime_api or prepared.function.network == "egress":
        return None
    return (
        "runtime: the Runtime API needs sockets, which a function has in the sandbox tier "
        '"landlock" only with the machine\'s network: allow user namespaces on this machine, or set network = "egress"'
    )
