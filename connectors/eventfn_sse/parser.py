"""The event stream format. Source: WHATWG HTML, "Server-sent events", 9.2.5 parsing and 9.2.6 interpreting.

PURE: bytes in, events out, however the bytes are cut into pieces.
"""

from __future__ import annotations

import re

import msgspec

LARGEST = 8 * 1024 * 1024  # bytes of an event's data: more than any function can be invoked with

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"


class Event(msgspec.Struct, frozen=True):
    type: str
    data: str
    last_event_id: str  # of this event, or of the last one before it that had any
    has_id: bool  # it is this one's own
    too_large: bool = False  # then the data is not there


class EventStreamParser:
    def __init__(self, last_event_id: str = "", largest: int = LARGEST) -> None:
        """`last_event_id` is what the server was asked to go on from."""
        self.retry: float | None = None  # seconds, once the server has said how long to wait before a reconnect
        self._largest = largest
        self._last_event_id = last_event_id
        self._is_first_line = True
        self._after_cr = False  # a line feed that comes next belongs to the carriage return that has ended a line
        self._line = bytearray()  # as much of it as has come
        self._is_long_line = False  # the rest of it is not kept
        self._forget()

    def _forget(self) -> None:
        self._type = ""
        self._data: list[str] = []
        self._size = 0
        self._has_id = False
        self._too_large = False

    def feed(self, piece: bytes) -> list[Event]:
        """The events that this piece completes. What follows the last empty line is an event only once that comes."""
        if self._after_cr and piece:
            piece = piece.removeprefix(b"\n")
            self._after_cr = False
        if piece:
            self._after_cr = piece.endswith(b"\r")
        *lines, rest = _LINE_END.split(piece)
        events: list[Event] = []
        for line in lines:
            self._keep(line)
            event = self._end_of_line()
            if event is not None:
                events.append(event)
        self._keep(rest)
        return events

    def _keep(self, more: bytes) -> None:
        if not self._is_long_line:
            self._line += more
            self._is_long_line = len(self._line) > self._largest

    def _end_of_line(self) -> Event | None:
        line, is_long = bytes(self._line), self._is_long_line
        self._line.clear()
        self._is_long_line = False
        if self._is_first_line:
            line = line.removeprefix(_BOM)
            self._is_first_line = False
        if not line:
            return self._dispatch()
        if line.startswith(b":"):
            return None
        if is_long:
            self._too_large = self._too_large or line.startswith(b"data:")
            return None
        # A sequence that is no UTF-8 never reaches over the end of a line, so lines may be decoded one by one.
        field, _, value = line.decode(errors="replace").partition(":")
        self._process(field, value.removeprefix(" "))
        return None

    def _process(self, field: str, value: str) -> None:
        match field:
            case "event":
                self._type = value
            case "data":
                self._size += len(value) + 1
                if self._size > self._largest:
                    self._too_large = True
                    self._data = [""]
                else:
                    self._data.append(value)
            case "id":
                if "\0" not in value:
                    self._last_event_id = value
                    self._has_id = True
            case "retry":
                if value.isascii() and value.isdigit():
                    self.retry = float(value) / 1000
            case _:
                pass

    def _dispatch(self) -> Event | None:
        event = None
        if self._data or self._too_large:
            event = Event(
                type=self._type or "message",
                data="" if self._too_large else "\n".join(self._data),
                last_event_id=self._last_event_id,
                has_id=self._has_id,
                too_large=self._too_large,
            )
        self._forget()
        return event
