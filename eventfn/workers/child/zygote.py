"""The zygote: an interpreter with the usual modules loaded, which clones itself whenever an environment is wanted.

Run as `python -I -S zygote.py CONTROL`, one thread, clean environment. Its memory is shared with every later
environment, so it is told slot numbers and handed descriptors, and never an event, a setting or an environment
variable of a function: those go to the environment over its own channel.

Control socket (SEQPACKET): `!I` slot with two descriptors, the channel and the log pipe, is answered by `!Ii` slot,
pid (below 0: an errno). The end of the socket is the end of the zygote.
"""

from __future__ import annotations

import gc
import os
import site
import socket
import struct
import sys
import types
from pathlib import Path

_REQUEST = struct.Struct("!I")
_ANSWER = struct.Struct("!Ii")

# What most functions import anyway: loaded once here, shared by all. Each MB costs every clone about 6.5 us.
_PRELOADED = """
    asyncio base64 collections contextlib dataclasses datetime decimal enum functools hashlib importlib inspect io json
    logging pathlib random re ssl string tempfile time traceback typing urllib.parse uuid warnings
"""


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    # A root without eventfn/__init__.py behind it: that one imports what is not for this side.
    root = types.ModuleType("eventfn")
    root.__path__ = [str(Path(__file__).resolve().parents[2])]
    sys.modules["eventfn"] = root
    from eventfn.sandbox import privileges
    from eventfn.workers.child import clone, environment

    for name in _PRELOADED.split():
        __import__(name)
    for name in [name for name in sys.modules if name == "eventfn" or name.startswith("eventfn.")]:
        del sys.modules[name]
    site.setquit()  # exit() and quit(), which -S leaves out and handlers call
    privileges.hide_memory()  # a function of the same user must not write into what all later ones are copied from
    gc.collect()
    gc.disable()
    gc.freeze()
    control.send(_ANSWER.pack(0, os.getpid()))
    channel, logs = _serve(control, clone)
    # Only environments come here, near the bottom of the stack and with nothing of the loop above left.
    sys.modules["__main__"] = types.ModuleType("__main__")
    environment.main(channel, logs)


def _serve(control: socket.socket, clone: types.ModuleType) -> tuple[int, int]:
    """Clones on demand. Returns only in a clone, with its two descriptors."""
    while True:
        message, descriptors = _receive(control)
        if not message:
            os._exit(0)
        (slot,) = _REQUEST.unpack(message)
        threads = len(os.listdir("/proc/self/task"))  # noqa: PTH208 - a plain list is all that is needed
        assert threads == 1, f"the zygote has {threads} threads: a clone would have only one of them, and their locks"
        try:
            pid = clone.clone()
        except OSError as error:
            pid = -(error.errno or 38)
        if pid == 0:
            os.close(control.detach())
            return descriptors[0], descriptors[1]
        for descriptor in descriptors:
            os.close(descriptor)
        try:
            control.send(_ANSWER.pack(slot, pid))
        except BrokenPipeError:
            os._exit(0)


def _receive(control: socket.socket) -> tuple[bytes, list[int]]:
    try:
        message, descriptors, _, _ = socket.recv_fds(control, _REQUEST.size, 2)
    except ConnectionResetError:  # the supervisor died with an answer unread
        return b"", []
    return message, descriptors


if __name__ == "__main__":
    main()
