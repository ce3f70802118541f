"""The supervisor's side of an environment with extensions: its keeper (child/keeper.py), asked to start the runtime and
to signal one of the processes, and heard when one has ended.

What it says is nearly ours: no code of the function runs in it, and none can reach its socket.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable

from eventfn.workers.child import keeper

RUNTIME = keeper.RUNTIME


class Keeping:
    """`ended` is called with a number, an exit status as os.waitstatus_to_exitcode has it, and the most KB that the
    process has held. `log` is the descriptor of what the extensions print, its owner's from then on."""

    def __init__(self, control: socket.socket, ended: Callable[[int, int, int], None]) -> None:
        self._control = control
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._dialled: dict[int, list[asyncio.Future[socket.socket]]] = {}  # by port
        control.setblocking(False)

    def open(self) -> int:
        """Once the keeper is ready: the log's descriptor. Raises OSError."""
        message, descriptors, _, _ = socket.recv_fds(self._control, keeper.LONGEST, 1)
        if message != keeper.LOG or len(descriptors) != 1:
            raise OSError(0, "the keeper has sent no log")
        self._loop.add_reader(self._control.fileno(), self._readable)
        return descriptors[0]

    def start_runtime(self) -> None:
        self._tell(keeper.START, RUNTIME)

    def signal(self, number: int, which: signal.Signals) -> None:
        self._tell(which, number)

    async def dial(self, port: int) -> socket.socket:
        """A connection to this port in the sandbox's network, or on its way to be one. Raises OSError."""
        answer: asyncio.Future[socket.socket] = self._loop.create_future()
        self._dialled.setdefault(port, []).append(answer)
        self._tell(keeper.DIAL, port)
        if self._control.fileno() < 0:
            raise OSError(0, "the environment ends")
        return await answer

    def close(self) -> None:
        if self._control.fileno() >= 0:
            self._loop.remove_reader(self._control.fileno())
            self._control.close()
        for answers in self._dialled.values():
            for answer in answers:
                answer.cancel()
        self._dialled.clear()

    def catch_up(self) -> None:
        """Hears what it has said before it ended."""
        while self._control.fileno() >= 0 and self._readable():
            pass

    def _tell(self, kind: int, number: int) -> None:
        try:
            self._control.send(keeper.REQUEST.pack(kind, number))
        except OSError:
            self.close()  # it is gone, or does not read: its end, or the deadline, ends the environment

    def _readable(self) -> bool:
        try:
            message, descriptors, _, _ = socket.recv_fds(self._control, keeper.LONGEST, 1)
        except OSError:
            return False
        connections = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        if len(message) != keeper.ENDED.size:
            for connection in connections:
                connection.close()
            self.close()
            return False
        number, status, most_kb = keeper.ENDED.unpack(message)
        if number != keeper.DIALED:
            self._ended(number, status, most_kb)
        for connection in connections:
            self._connected(status, connection)
        return True

    def _connected(self, port: int, connection: socket.socket) -> None:
        waiting = self._dialled.get(port)
        while waiting:
            answer = waiting.pop(0)
            if not answer.done():
                connection.setblocking(False)
                answer.set_result(connection)
                return
        connection.close()  # whoever wanted it has given up
