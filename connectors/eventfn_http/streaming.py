"""A response that is sent while the function makes it: chunks to a client of HTTP/1.1, and to one of HTTP/1.0 bytes
until the connection ends.

What a function says of status and headers comes before the body, as JSON that eight NUL bytes end (Lambda's
application/vnd.awslambda.http-integration-response); one that says nothing is answered with 200.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from eventfn.event import Buffer, Outcome, OutcomeKind
from eventfn_http import responses
from eventfn_http.responses import Response

PRELUDE = "application/vnd.awslambda.http-integration-response"
_END_OF_PRELUDE = bytes(8)
_LONGEST_PRELUDE = 131_072  # bytes
_BYTES = "application/octet-stream"


class Client(Protocol):
    """The connection, as a response sees it that is sent in parts."""

    @property
    def takes_no_more(self) -> bool:
        """For now."""
        ...

    @property
    def has_left(self) -> bool: ...

    def send_head(self, head: Response) -> bool:
        """Whether a body belongs behind it; without one the function is stopped."""
        ...

    def send_part(self, part: Buffer) -> None: ...

    def send_end(self, *, whole: bool) -> None:
        """Not whole: so that the client sees that something is missing."""
        ...

    def send_whole(self, response: Response) -> None: ...


class Streamed:
    """Implements event.ResponseStream for one request. `respond` makes the response of an answer in one piece."""

    def __init__(
        self,
        client: Client,
        respond: Callable[[Outcome], Response],
        finished: Callable[[Response], Response] | None = None,
    ) -> None:
        """`finished`: what is done to every response in the end, whatever the function says."""
        self._client = client
        self._respond = respond
        self._finished = finished or _as_it_is
        self._prelude: bytearray | None = None  # what has come of it
        self._begun = False
        self._broken = False  # what it says first cannot be a response
        self._bodiless = False
        self._room: Callable[[], None] | None = None

    # --- the function's side -----------------------------------------------------------------------------------------

    def on_room(self, resume: Callable[[], None]) -> None:
        self._room = resume

    def begin(self, content_type: str | None) -> None:
        if content_type == PRELUDE:
            self._prelude = bytearray()
        else:
            lines = responses.content_type(content_type or _BYTES)
            self._start(responses.INTERNAL_SERVER_ERROR if lines is None else Response(200, lines, b""))

    def write(self, chunk: Buffer) -> None:
        if self._prelude is not None:
            self._prelude += chunk
            at = self._prelude.find(_END_OF_PRELUDE)
            if at < 0:
                if len(self._prelude) > _LONGEST_PRELUDE:
                    self._break()
                return
            said, chunk = bytes(self._prelude[:at]), bytes(self._prelude[at + len(_END_OF_PRELUDE) :])
            self._prelude = None
            head = responses.prelude(said)
            if head is None:
                self._break()
                return
            self._start(head)
        if chunk and self._begun and not self.gone:
            self._client.send_part(chunk)

    @property
    def full(self) -> bool:
        return self._client.takes_no_more

    @property
    def gone(self) -> bool:
        return self._broken or self._bodiless or self._client.has_left

    def ended(self, outcome: Outcome) -> None:
        if self._begun:
            self._client.send_end(whole=outcome.ok)
        elif self._broken or self._prelude is not None:
            self._client.send_whole(self._finished(responses.INTERNAL_SERVER_ERROR))
        elif outcome.kind is OutcomeKind.SUCCESS and not outcome.payload:
            self._start(Response(200, responses.content_type(_BYTES) or b"", b""))  # a generator of nothing
            self._client.send_end(whole=True)
        else:
            self._client.send_whole(self._finished(self._respond(outcome)))

    # --- the client's side -------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """The client takes more again, or has left."""
        if self._room is not None:
            self._room()

    def _start(self, head: Response) -> None:
        self._begun = True
        self._bodiless = not self._client.send_head(self._finished(head))

    def _break(self) -> None:
        self._prelude = None
        self._broken = True
        self.changed()


def _as_it_is(response: Response) -> Response:
    return response
