"""Frames of the channel between supervisor and environment, seen from the supervisor. PURE.

The bytes are described in child/frames.py, the one file that both sides share; a payload is never decoded here.
Whatever an environment sends is untrusted: lengths are bounded before anything is kept, and what does not parse is a
ProtocolError, which costs that environment its life and nobody else anything.
"""

from __future__ import annotations

import msgspec

from eventfn.event import Buffer, Invocation
from eventfn.workers.child import frames


class ProtocolError(Exception):
    """The environment sent what no runtime sends."""


class ResponseTooLarge(Exception):
    """The environment announced an answer above Lambda's limit; nothing of it was kept."""


class NetworkPlan(msgspec.Struct, frozen=True):
    """What an environment does for its allow-list. The targets are the supervisor's business."""

    addresses: tuple[str, ...]
    listen: tuple[tuple[str, int], ...]
    hosts: str


class Program(msgspec.Struct, frozen=True):
    """What is started in the environment's place: `[wrapper] <the first candidate that can be executed> arguments`."""

    candidates: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    wrapper: str | None = None
    # Where a Python handler behind a wrapper finds what it speaks frames with; None: it speaks the Runtime API.
    modules: str | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What all environments of a function are told alike."""

    supervisor: int  # pid
    function: str
    handler: str
    concurrency: int
    memory_mb: int
    tmp_mb: int
    mounts: list[str]  # where the mounts go whose descriptors come with this frame, behind the log pipe's
    readable: list[str]  # paths that Landlock lets through, beside the system's
    writable: list[str]
    hidden: list[str]  # folders within them that the function is not to see
    network: (
        NetworkPlan | None
    )  # of an allow-list; a socket for the listeners comes with this frame, right behind the log
    program: Program | None = None  # None: a Python handler, imported and served by the environment itself
    # Where its runtime finds the Runtime API: an address to listen on for the supervisor, port 0 for any. Its socket
    # goes the way of those of the allow-list.
    api: tuple[str, int] | None = None
    # Programs that are started beside the runtime. The control socket of who keeps them comes where a snapshot's would.
    extensions: tuple[str, ...] = ()
    head_room_mb: int  # data memory of each process beyond memory_mb
    snapshot: bool  # it makes copies of itself: its control socket comes behind the log's descriptor and the network's
    gate: bool = False  # its descriptor comes right behind the log's: the environment may be sent requests ahead
    task_root: str
    path: list[str]  # before the standard library in sys.path
    bytecode: dict[str, str]  # folder of the path -> folder with what was compiled of it at publish time
    variables: dict[str, str]


class Own(msgspec.Struct, frozen=True):
    """What one of them is told besides."""

    variables: dict[str, str]
    # Its first request comes right behind, and it may begin with that at once if its init is over by then, on the
    # machine's monotonic clock. None: there is none.
    first_until: float | None = None


class Answer(msgspec.Struct, frozen=True):
    """A frame from an environment: RESULT, ERROR, CHUNK, READY, NEVER_STARTED or INIT_ERROR."""

    kind: int
    logged: int
    number: int
    peak_kb: int
    took_us: int
    header: str
    payload: bytes
    body: Buffer

    @property
    def error(self) -> tuple[str, str]:
        """Type and message."""
        error_type, _, message = self.header.partition("\n")
        return error_type, message


_encode = msgspec.json.Encoder().encode
_PREFIX = frames.PREFIX
_SIZE = frames.SIZE


def encode(its: Settings | Own) -> bytes:
    return _encode(its)


def settings(own: Own, encoded: bytes) -> bytes:
    """`encoded`: Settings."""
    return frames.join(frames.INIT, _encode(own), encoded)


def cancel(number: int) -> bytes:
    return frames.join(frames.CANCEL, number=number)


def room(number: int, amount: int) -> bytes:
    return frames.join(frames.ROOM, number=number, amount=amount)


def gone(number: int) -> bytes:
    return frames.join(frames.GONE, number=number)


def invoke(
    number: int, milliseconds_left: int, invocation: Invocation, kind: int = frames.INVOKE, flag: int = 0
) -> tuple[Buffer, ...]:
    """One frame, in one piece or two. `milliseconds_left` and not a deadline: the sides may read different clocks.
    `kind`: INVOKE or STREAM, of an event that is not apart. `flag`: AHEAD, OPEN."""
    apart, payload, trace_id = invocation.apart, invocation.payload, invocation.trace_id or ""
    if apart is None:
        body: Buffer = b""
        last = invocation.client_context or ""
    else:
        kind, body = frames.REQUEST, apart.body
        last = f"{apart.time}\n{apart.time_epoch}"
    header = f"{invocation.request_id}\n{invocation.invoked_arn}\n{trace_id}\n{last}".encode()
    prefix = _PREFIX.pack(kind, flag, number, milliseconds_left, 0, len(header), len(payload), len(body))
    if len(body) < frames.LARGE:
        return (b"".join((prefix, header, payload, body)),)
    return b"%b%b%b" % (prefix, header, payload), body


class Reader:
    """Turns what arrives into answers, with at most one frame kept. What is missing of a large one need not pass
    through `feed`: it can be received where it belongs, into `rest`, and told by `filled`."""

    def __init__(self) -> None:
        self.rest: memoryview | None = None
        self._large = bytearray()
        self._kept = b""

    def feed(self, data: bytes) -> list[Answer]:
        """The answers that are complete now. Raises ProtocolError, ResponseTooLarge."""
        if not self._kept and len(data) >= _SIZE and self.rest is None:
            # Nearly always: exactly one whole frame, which is cut without being copied into the buffer first.
            kind, logged, number, peak_kb, took, header_size, payload_size, body_size = _PREFIX.unpack_from(data)
            middle = _SIZE + header_size
            end = middle + payload_size
            if end + body_size == len(data):
                _check(kind, header_size, payload_size + body_size)
                header = _text(data[_SIZE:middle]) if header_size else ""
                return [Answer(kind, logged, number, peak_kb, took, header, data[middle:end], data[end:])]
        answers: list[Answer] = []
        if self.rest is not None:
            count = min(len(self.rest), len(data))
            self.rest[:count] = data[:count]
            answers += self.filled(count)
            data = data[count:]
        if self._kept:
            data, self._kept = self._kept + data, b""
        at = 0
        while len(data) - at >= _SIZE:
            kind, logged, number, peak_kb, took, header_size, payload_size, body_size = _PREFIX.unpack_from(data, at)
            _check(kind, header_size, payload_size + body_size)
            middle = at + _SIZE + header_size
            end = middle + payload_size
            missing = end + body_size - len(data)
            if missing >= frames.LARGE or (missing > 0 and len(data) - at >= frames.LARGE):
                self._large = bytearray(len(data) - at + missing)
                self._large[:-missing] = data[at:]
                self.rest = memoryview(self._large)[-missing:]
                return answers
            if missing > 0:
                break  # less than LARGE is kept: whoever sends byte after byte has no more copied each time
            header = _text(data[at + _SIZE : middle]) if header_size else ""
            at = end + body_size
            answers.append(Answer(kind, logged, number, peak_kb, took, header, data[middle:end], data[end:at]))
        self._kept = data[at:]
        return answers

    def filled(self, count: int) -> list[Answer]:
        """So many bytes have been written into `rest`."""
        assert self.rest is not None
        if count < len(self.rest):
            self.rest = self.rest[count:]
            return []
        frame, self._large, self.rest = self._large, bytearray(), None
        return [_cut(frame)]


def _cut(frame: bytearray) -> Answer:
    """A whole frame whose lengths are checked. Only the header and the payload are copied out of it."""
    kind, logged, number, peak_kb, took, header_size, payload_size, _ = _PREFIX.unpack_from(frame)
    view = memoryview(frame)
    middle = _SIZE + header_size
    end = middle + payload_size
    header = _text(bytes(view[_SIZE:middle]))
    return Answer(kind, logged, number, peak_kb, took, header, bytes(view[middle:end]), view[end:])


def _check(kind: int, header_size: int, answer_size: int) -> None:
    if header_size > frames.MAX_HEADER:
        raise ProtocolError(f"a header of {header_size} bytes, at most {frames.MAX_HEADER} are allowed")
    if answer_size > frames.MAX_PAYLOAD:
        raise ResponseTooLarge(f"an answer of {answer_size} bytes, at most {frames.MAX_PAYLOAD} are allowed")
    if not frames.READY <= kind <= frames.STANDS:
        raise ProtocolError(f"a frame of the kind {kind}, which there is none")


def _text(header: bytes) -> str:
    try:
        return header.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(f"a header that is none: {error}") from None
