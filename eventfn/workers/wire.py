"""Frames of the channel between supervisor and environment, seen from the supervisor. PURE.

The bytes are described in child/frames.py, the one file that both sides share. A header is a small typed struct; a
payload is never decoded here. Whatever an environment sends is untrusted: both lengths are bounded before anything
is kept, and what does not parse is a ProtocolError, which costs that environment its life and nobody else anything.
"""

from __future__ import annotations

import msgspec

from eventfn.workers.child import frames


class ProtocolError(Exception):
    """The environment sent what no runtime sends."""


class ResponseTooLarge(Exception):
    """The environment announced an answer above Lambda's limit; nothing of it was kept."""


class Init(msgspec.Struct, array_like=True, tag="init", frozen=True):
    """The first frame. Its payload is a Settings as JSON."""


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


class Invoke(msgspec.Struct, array_like=True, tag="invoke", frozen=True):
    """A request; its payload is the event. `left_ms` and not a deadline: the two sides may read different clocks."""

    number: int
    request_id: str
    left_ms: int
    arn: str
    client_context: str | None
    trace_id: str | None


class Cancel(msgspec.Struct, array_like=True, tag="cancel", frozen=True):
    number: int


class Ready(msgspec.Struct, array_like=True, tag="ready", frozen=True):
    """The handler is imported."""


class NeverStarted(msgspec.Struct, array_like=True, tag="never_started", frozen=True):
    """The sandbox did not hold, so the function was not let in."""

    reason: str


class InitError(msgspec.Struct, array_like=True, tag="init_error", frozen=True):
    """It could not be; the payload is the error object."""

    error_type: str
    message: str


class Result(msgspec.Struct, array_like=True, tag="result", frozen=True):
    """The payload is what the handler returned."""

    number: int
    peak_kb: int


class Error(msgspec.Struct, array_like=True, tag="error", frozen=True):
    """The payload is the error object of what the handler raised."""

    number: int
    peak_kb: int
    error_type: str
    message: str


Answer = Ready | NeverStarted | InitError | Result | Error

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Answer).decode
_PREFIX = frames.PREFIX
_PREFIX_SIZE = frames.PREFIX.size


def encode(header: Init | Invoke | Cancel, payload: bytes = b"") -> bytes:
    return frames.join(_encode(header), payload)


def encode_settings(settings: Settings) -> bytes:
    return encode(Init(), _encode(settings))


class Reader:
    """Turns what arrives into answers, with at most one frame kept."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def feed(self, data: bytes) -> list[tuple[Answer, bytes]]:
        """The answers that are complete now. Raises ProtocolError, ResponseTooLarge."""
        if not self._kept and len(data) >= _PREFIX_SIZE:
            # Nearly always: exactly one whole frame, which is cut without being copied into the buffer first.
            header_size, payload_size = _PREFIX.unpack_from(data)
            if _PREFIX_SIZE + header_size + payload_size == len(data):
                return [self._cut(data, header_size, payload_size)]
        self._kept += data
        answers: list[tuple[Answer, bytes]] = []
        while len(self._kept) >= _PREFIX_SIZE:
            header_size, payload_size = _PREFIX.unpack_from(self._kept)
            self._check(header_size, payload_size)
            end = _PREFIX_SIZE + header_size + payload_size
            if len(self._kept) < end:
                break
            with memoryview(self._kept) as kept:
                frame = bytes(kept[:end])
            del self._kept[:end]
            answers.append(self._cut(frame, header_size, payload_size))
        return answers

    def _check(self, header_size: int, payload_size: int) -> None:
        if header_size > frames.MAX_HEADER:
            raise ProtocolError(f"a header of {header_size} bytes, at most {frames.MAX_HEADER} are allowed")
        if payload_size > frames.MAX_PAYLOAD:
            raise ResponseTooLarge(f"a payload of {payload_size} bytes, at most {frames.MAX_PAYLOAD} are allowed")

    def _cut(self, frame: bytes, header_size: int, payload_size: int) -> tuple[Answer, bytes]:
        self._check(header_size, payload_size)
        middle = _PREFIX_SIZE + header_size
        try:
            return _decode(memoryview(frame)[_PREFIX_SIZE:middle]), frame[middle:]
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ProtocolError(f"a header that is none: {error}") from None
