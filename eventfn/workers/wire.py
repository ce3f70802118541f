"""Frames of the channel between supervisor and environment, seen from the supervisor. PURE.

The bytes are described in child/frames.py, the one file that both sides share; a payload is never decoded here.
Whatever an environment sends is untrusted: lengths are bounded before anything is kept, and what does not parse is a
ProtocolError, which costs that environment its life and nobody else anything.
"""

from __future__ import annotations

import msgspec

from eventfn.event import Invocation
from eventfn.workers.child import frames


class ProtocolError(Exception):
    """The environment sent what no runtime sends."""


class ResponseTooLarge(Exception):
    """The environment announced an answer above Lambda's limit; nothing of it was kept."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All that an environment is told about itself."""

    supervisor: int  # pid
    function: str
    handler: str
    concurrency: int
    memory_mb: int
    task_root: str
    path: list[str]  # before the standard library in sys.path
    bytecode: dict[str, str]  # folder of the path -> folder with what was compiled of it at publish time
    variables: dict[str, str]


class Answer(msgspec.Struct, frozen=True):
    """A frame from an environment: RESULT, ERROR, READY, NEVER_STARTED or INIT_ERROR."""

    kind: int
    logged: int
    number: int
    peak_kb: int
    header: str
    payload: bytes
    body: bytes

    @property
    def error(self) -> tuple[str, str]:
        """Type and message."""
        error_type, _, message = self.header.partition("\n")
        return error_type, message


_encode = msgspec.json.Encoder().encode
_PREFIX = frames.PREFIX
_SIZE = frames.SIZE
_LARGE = 65_536  # from here one more copy of a body costs more than a second buffer


def settings(its: Settings) -> bytes:
    return frames.join(frames.INIT, payload=_encode(its))


def cancel(number: int) -> bytes:
    return frames.join(frames.CANCEL, number=number)


def invoke(number: int, milliseconds_left: int, invocation: Invocation) -> tuple[bytes, ...]:
    """One frame, in one piece or two. `milliseconds_left` and not a deadline: the sides may read different clocks."""
    apart, payload, trace_id = invocation.apart, invocation.payload, invocation.trace_id or ""
    if apart is None:
        kind, body = frames.INVOKE, b""
        last = invocation.client_context or ""
    else:
        kind, body = frames.REQUEST, apart.body
        last = f"{apart.time}\n{apart.time_epoch}"
    header = f"{invocation.request_id}\n{invocation.invoked_arn}\n{trace_id}\n{last}".encode()
    prefix = _PREFIX.pack(kind, 0, number, milliseconds_left, len(header), len(payload), len(body))
    if len(body) < _LARGE:
        return (b"%b%b%b%b" % (prefix, header, payload, body),)
    return b"%b%b%b" % (prefix, header, payload), body


class Reader:
    """Turns what arrives into answers, with at most one frame kept."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, data: bytes) -> list[Answer]:
        """The answers that are complete now. Raises ProtocolError, ResponseTooLarge."""
        if not self._kept and len(data) >= _SIZE:
            # Nearly always: exactly one whole frame, which is cut without being copied into the buffer first.
            kind, logged, number, peak_kb, header_size, payload_size, body_size = _PREFIX.unpack_from(data)
            middle = _SIZE + header_size
            end = middle + payload_size
            if end + body_size == len(data):
                _check(kind, header_size, payload_size + body_size)
                header = _text(data[_SIZE:middle]) if header_size else ""
                return [Answer(kind, logged, number, peak_kb, header, data[middle:end], data[end:])]
        self._kept += data
        answers: list[Answer] = []
        while len(self._kept) >= _SIZE:
            kind, logged, number, peak_kb, header_size, payload_size, body_size = _PREFIX.unpack_from(self._kept)
            _check(kind, header_size, payload_size + body_size)
            middle = _SIZE + header_size
            end = middle + payload_size
            size = end + body_size
            if len(self._kept) < size:
                break
            with memoryview(self._kept) as kept:
                header = _text(bytes(kept[_SIZE:middle]))
                answer = Answer(kind, logged, number, peak_kb, header, bytes(kept[middle:end]), bytes(kept[end:size]))
            del self._kept[:size]
            answers.append(answer)
        return answers


def _check(kind: int, header_size: int, answer_size: int) -> None:
    if header_size > frames.MAX_HEADER:
        raise ProtocolError(f"a header of {header_size} bytes, at most {frames.MAX_HEADER} are allowed")
    if answer_size > frames.MAX_PAYLOAD:
        raise ResponseTooLarge(f"an answer of {answer_size} bytes, at most {frames.MAX_PAYLOAD} are allowed")
    if not frames.READY <= kind <= frames.ERROR:
        raise ProtocolError(f"a frame of the kind {kind}, which there is none")


def _text(header: bytes) -> str:
    try:
        return header.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(f"a header that is none: {error}") from None
