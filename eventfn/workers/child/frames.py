"""The frame as bytes: the one file that both sides of the channel share, standard library only.

    !B kind   !B flag   !I number   !I amount   !I took   !I header length   !I payload length   !I body length
    header: UTF-8 text, its fields divided by line feeds   payload: JSON   body: UTF-8 text

Supervisor to environment                  amount              header
    one byte, with descriptors: the gate
    INIT      settings, with descriptors   -                   what is this environment's own, as JSON; wire.Own
    INVOKE    an event                     milliseconds left   request id, ARN, trace id, client context
    REQUEST   an event, parts of it apart  milliseconds left   request id, ARN, trace id, client context, time,
              (eventfn.event.Apart)                            ms since the epoch
    STREAM    an event                     milliseconds left   as INVOKE; the answer may come in chunks
    CANCEL    -                            -                   -
    ROOM      -                            more bytes of room  -
    GONE      -                            -                   -; nobody takes the chunks any more
Environment to supervisor
    STANDS    -                            -                   -; while it is blank, as soon as it is worth taking
    READY     -                            bytes in the log    -
    NEVER_STARTED, INIT_ERROR              -                   reason; error type, message (payload: error object)
    RESULT    the answer                   most KB ever held   -
    ERROR     the error object             most KB ever held   error type, message
    CHUNK     some of a streamed answer    -                   the content type, in the first one

A small first request may come right behind the settings. An environment whose init is over by the moment that they
name begins with it at once: READY then has its number, and says how much of the log was written before. An init that
takes longer leaves it: READY has no number, and the request comes again.

`number` counts the requests of one environment. The flag of an answer says that something may stand in the log pipe
that belongs before it, the flag of READY that requests may come ahead; that of a request how it passes the gate
(child/gate.py): AHEAD comes while another one is under way, and is begun after that one's answer or never, OPEN opens
the gate. `took` is how long the request of a RESULT took, in microseconds; 0: it is not said. A REQUEST's answer may
have the text of its "body" apart too; nothing else has a body.

An answer to STREAM that comes in chunks ends with a RESULT without payload, or an ERROR. Each request's chunks have
WINDOW bytes of room from the beginning, each chunk takes CHUNK_COST and its payload's length of it, and ROOM gives it
back once they are taken: so one slow reader fills neither side's memory nor the channel that others share. ROOM and
GONE may come late, after the last frame of their request.
"""

from __future__ import annotations

import os
import socket
import struct

PREFIX = struct.Struct("!BBIIIIII")
SIZE = PREFIX.size
INIT, INVOKE, REQUEST, STREAM, CANCEL, ROOM, GONE = range(1, 8)
READY, NEVER_STARTED, INIT_ERROR, RESULT, ERROR, CHUNK, STANDS = range(8, 15)
AHEAD, OPEN = 1, 2

MAX_HEADER = 65_536
MAX_PAYLOAD = 6_291_556  # Lambda's limit of a synchronous response: 6 MiB + 100 bytes; payload and body together
MAX_STREAMED = 209_715_200  # Lambda's limit of a streamed response: 200 MiB
WINDOW = 262_144
MAX_CHUNK = 65_536  # bytes of a chunk's payload
CHUNK_COST = 32  # what its frame is counted as, so that many small ones are bounded too
MAX_DESCRIPTORS = 64  # that come with the settings
CHANNEL = 3  # the channel's descriptor in an environment
LARGE = 65_536  # bytes of a body; from here one more copy costs more than a second buffer
READ = 65_536  # bytes of a read: a larger buffer is mapped and unmapped by malloc at every read: 16 us

Frame = tuple[int, int, int, str, bytes, str]  # kind, number, amount, header, payload, body


def join(
    kind: int,
    header: bytes = b"",
    payload: bytes = b"",
    *,
    number: int = 0,
    amount: int = 0,
    took: int = 0,
    flag: int = 0,
    body: bytes = b"",
) -> bytes:
    prefix = PREFIX.pack(kind, flag, number, amount, took, len(header), len(payload), len(body))
    return b"%b%b%b%b" % (prefix, header, payload, body)


def cut(data: bytearray) -> tuple[Frame | None, int]:
    """The first frame, None as long as some of it is missing, and how many bytes it has. `data` begins with a whole
    prefix."""
    kind, _, number, amount, _, header_size, payload_size, body_size = PREFIX.unpack_from(data)
    middle = SIZE + header_size
    end = middle + payload_size
    size = end + body_size
    if len(data) < size:
        return None, size
    with memoryview(data) as view:
        header, payload, body = str(view[SIZE:middle], "utf-8"), bytes(view[middle:end]), str(view[end:size], "utf-8")
    return (kind, number, amount, header, payload, body), size


def pass_gate(channel: int) -> bool:
    """Waits for the supervisor's leave to do anything, and goes into the cgroups whose doors come with it. False at the
    end of the channel."""
    with socket.socket(fileno=os.dup(channel)) as receiving:
        gate, doors, _, _ = socket.recv_fds(receiving, 1, MAX_DESCRIPTORS)
    for door in doors:
        os.write(door, b"0")
        os.close(door)
    return bool(gate)


def read_first(channel: int) -> tuple[str, bytes, list[int], bytearray] | None:
    """What is its own, the settings, the descriptors that came with them, and what came behind, for `read_ahead`; None
    at the end of the channel."""
    with socket.socket(fileno=os.dup(channel)) as receiving:
        first, descriptors, _, _ = socket.recv_fds(receiving, READ, MAX_DESCRIPTORS)
    data = bytearray(first)
    found = read_ahead(channel, data) if data else None
    return None if found is None else (found[3], found[4], descriptors, data)


def read_ahead(channel: int, data: bytearray) -> Frame | None:
    """A frame of which some may be there already, in `data`, which keeps what follows it; None at the end."""
    while True:
        frame, size = cut(data) if len(data) >= SIZE else (None, 0)
        if frame is not None:
            del data[:size]
            return frame
        more = os.read(channel, READ)
        if not more:
            return None
        data += more


def write(channel: int, frame: bytes, body: bytes | memoryview = b"") -> None:
    """The whole frame, blocking, and the body that follows it."""
    written = os.writev(channel, (frame, body)) if body else os.write(channel, frame)
    for part in (frame, body):
        with memoryview(part) as view:
            while written < len(part):
                written += os.write(channel, view[written:])
        written -= len(part)
