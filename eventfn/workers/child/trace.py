"""The trace of the latest request, in the variable in which Lambda's runtimes keep it: a process has one environment.

libc forgets no text that setenv was ever given: 140 bytes for each request, 140 MB for a million of them. So the
variable stands in memory of its own, which is written over, and os.environ is told apart from libc.
"""

from __future__ import annotations

import ctypes
import os

NAME = "_X_AMZN_TRACE_ID"
_KEY = NAME.encode()
_START = len(_KEY) + 1
_USUAL = 512  # bytes; a caller's own header may be longer

# What Python reads. It is told and not asked to tell libc, as nothing public does.
_python: dict[bytes, bytes] = vars(os.environ)["_data"]
_libc = ctypes.PyDLL(None)
_libc.putenv.argtypes = [ctypes.c_void_p]
_kept: list[bytearray] = []  # whatever libc was ever shown: others may be reading it. Each is twice the one before


class Trace:
    def __init__(self) -> None:
        self._text = ""
        self._told = b""
        self._memory = bytearray()

    def set(self, text: str) -> None:
        """`text`: the trace header; empty: there is no trace."""
        if text == self._text:
            return
        self._text = text
        if not text:
            os.environ.pop(NAME, None)
            return
        said = os.fsencode(text)
        missing = _python.get(_KEY) is not self._told  # the first one, or the function has taken it away
        _python[_KEY] = self._told = said
        end = _START + len(said)
        if end >= len(self._memory):
            self._memory = bytearray(max(_USUAL, 2 * end))
            self._memory[:_START] = _KEY + b"="
            _kept.append(self._memory)
            missing = True
        self._memory[_START : end + 1] = said + b"\0"
        if missing:
            _libc.putenv(ctypes.addressof((ctypes.c_char * len(self._memory)).from_buffer(self._memory)))
