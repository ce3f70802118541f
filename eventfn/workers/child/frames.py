"""The frame as bytes: the one file that both sides of the channel share, standard library only.

    !I header length   !I payload length   header: a JSON array, its first item names the frame   payload: raw bytes

Supervisor to environment:  ["init"] + settings as JSON        ["invoke", n, request id, milliseconds left, ARN,
                            client context, trace id] + event  ["cancel", n]
Environment to supervisor:  ["ready"]    ["never_started", reason]    ["init_error", type, message] + error object
                            ["result", n, KB] + answer         ["error", n, KB, type, message] + error object

n counts the requests of one environment; KB is the most memory that the process ever held.
"""

from __future__ import annotations

import json
import os
import struct
from typing import Any

PREFIX = struct.Struct("!II")
MAX_HEADER = 65_536
MAX_PAYLOAD = 6_291_556  # Lambda's limit of a synchronous response: 6 MiB + 100 bytes
CHANNEL = 3  # the channel's descriptor in an environment
_CHUNK = 65_536  # a larger buffer is mapped and unmapped by malloc at every read: 16 us


_decode = json.JSONDecoder().decode  # json.loads would look at the encoding first, at every frame


def join(header: bytes, payload: bytes) -> bytes:
    return PREFIX.pack(len(header), len(payload)) + header + payload


def read(channel: int) -> tuple[list[Any], bytes] | None:
    """The next frame, blocking; None at the end of the channel. The supervisor is trusted: no bounds here.

    Nothing follows a frame before it is answered, so whatever one read returns belongs to it: small frames take a
    single system call.
    """
    data = os.read(channel, _CHUNK)
    if not data:
        return None
    while len(data) < PREFIX.size:
        more = os.read(channel, _CHUNK)
        if not more:
            return None
        data += more
    header_size, payload_size = PREFIX.unpack_from(data)
    end = PREFIX.size + header_size + payload_size
    if len(data) < end:
        whole = bytearray(data)
        while len(whole) < end:
            more = os.read(channel, min(end - len(whole), 1_048_576))
            if not more:
                return None
            whole += more
        data = bytes(whole)
    middle = PREFIX.size + header_size
    return _decode(data[PREFIX.size : middle].decode()), data[middle:]


def write(channel: int, header: bytes, payload: bytes) -> None:
    """The whole frame, blocking."""
    view = memoryview(join(header, payload))
    while view:
        view = view[os.write(channel, view) :]
