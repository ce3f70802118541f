"""The zygote: an interpreter with the usual modules loaded, which clones itself whenever an environment is wanted.

Run as `python -I -S zygote.py CONTROL FACTS`, one thread, clean environment; FACTS is {"tier", "proc"} as JSON. Its
memory is shared with every later environment, so it is told slot numbers, paths and handed descriptors, and never an
event, a setting or an environment variable of a function: those go to the environment over its own channel.

Control socket (SEQPACKET), each message once there and once back:

    !BI kind, slot     CLONE + ON_MACHINES_NETWORK + SHARED_ID: one descriptor, the channel    !Ii slot, pid
                       TREES: [[path, read only, null] ...] as JSON                            !Ii slot, 0, descriptors

A failure is answered by -errno and a text that names the call. The end of the socket is the end of the zygote.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import site
import socket
import struct
import sys
import types
from pathlib import Path
from typing import Any

CLONE, ON_MACHINES_NETWORK, SHARED_ID, TREES = 0, 1, 2, 4
_REQUEST = struct.Struct("!BI")
_ANSWER = struct.Struct("!Ii")
_LONGEST = 65_536  # bytes of a message

# What most functions import anyway: loaded once here, shared by all. Each MB costs every clone about 6.5 us.
_PRELOADED = """
    asyncio base64 collections contextlib dataclasses datetime decimal enum functools hashlib importlib inspect io json
    logging pathlib random re ssl string tempfile time traceback typing urllib.parse uuid warnings
"""


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    facts: dict[str, Any] = json.loads(sys.argv[2])
    # A root without eventfn/__init__.py behind it: that one imports what is not for this side.
    package = Path(__file__).resolve().parents[2]
    root = types.ModuleType("eventfn")
    root.__path__ = [str(package)]
    sys.modules["eventfn"] = root
    from eventfn.workers.child import blank, clone, ground, holes, rehearsal

    for name in _PRELOADED.split():
        __import__(name)
    platform.machine()  # asks the kernel once, for all clones
    for name in [name for name in sys.modules if name == "eventfn" or name.startswith("eventfn.")]:
        del sys.modules[name]
    rehearsal.rehearse_for_all(facts["tier"])
    site.setquit()  # exit() and quit(), which -S leaves out and handlers call
    try:
        prepared = ground.prepare(facts["tier"], facts["proc"], str(package / "workers/child/importable"))
    except OSError as error:
        control.send(_ANSWER.pack(0, -(error.errno or 1)) + str(error).encode())
        os._exit(1)
    gc.collect()
    gc.disable()
    holes.fill()
    gc.freeze()
    control.send(_ANSWER.pack(0, os.getpid()))
    channel, machines_network = _serve(control, prepared, clone, ground)
    # Only environments come here, near the bottom of the stack and with nothing of the loop above left.
    sys.modules["__main__"] = types.ModuleType("__main__")
    blank.main(channel, prepared, machines_network=machines_network)


def _serve(
    control: socket.socket, prepared: Any, clone: types.ModuleType, ground: types.ModuleType
) -> tuple[int, bool]:
    """Does as it is told. Returns only in a clone, with its channel, and whether it is on the machine's network."""
    while True:
        message, descriptors = _receive(control)
        if not message:
            os._exit(0)
        kind, slot = _REQUEST.unpack_from(message)
        result, text = 0, b""
        trees: list[int] = []
        try:
            if kind == TREES:
                trees = ground.trees(json.loads(message[_REQUEST.size :]))
            else:
                machines_network = bool(kind & ON_MACHINES_NETWORK)
                result = clone.clone(ground.namespaces_of(prepared, machines_network=machines_network))
                if result == 0:
                    os.close(control.detach())
                    return descriptors[0], machines_network
                ground.give_identity(prepared, result, slot, shared=bool(kind & SHARED_ID))
        except OSError as error:
            result, text = -(error.errno or 1), str(error).encode()
        for descriptor in descriptors:
            os.close(descriptor)
        try:
            socket.send_fds(control, [_ANSWER.pack(slot, result) + text], trees)
        except BrokenPipeError:
            os._exit(0)
        for descriptor in trees:
            os.close(descriptor)


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    try:
        message, descriptors, _, _ = socket.recv_fds(control, _LONGEST, 1)
    except ConnectionResetError:  # the supervisor died with an answer unread
        return b"", []
    return message, descriptors


if __name__ == "__main__":
    main()
