"""What a resource of Lambda's API is: operations by name, each a function from a Call to an Answer.

PURE: shapes only. Not here: how a request becomes a Call (lambda_api, inputs), what its input may hold (validation).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import msgspec

from eventfn.api.identity import Principal


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request to the API, signed, parsed and within the service model's constraints."""

    operation: str  # "CreateFunction"
    input: dict[str, Any]  # keys as in the service model; blobs are bytes, timestamps epoch seconds (float)
    principal: Principal  # who asks
    region: str  # from the credential scope, else [aws] region
    request_id: str
    base_url: str  # "http://127.0.0.1:9001", as the caller has reached it: for the locations of code
    headers: Mapping[str, str]  # of the request, for what the service model does not have (X-Amzn-Trace-Id)


class Answer(msgspec.Struct, frozen=True):
    """`body`: a mapping, in the output's keys of the service model, is written as JSON; bytes go out as they are, those
    of an iterator as they come, and it is closed when the caller has gone; None is an empty body."""

    body: Mapping[str, Any] | bytes | AsyncIterator[bytes] | None = None
    status: int | None = None  # None: the service model's
    headers: Mapping[str, str] = {}


Handler: TypeAlias = Callable[[Call], Awaitable[Answer]]


class Resource(Protocol):
    """One per file of this package. Handlers raise ApiError (errors.py) and the errors of eventfn.errors, whose answers
    stand in one place; anything else is a 500 and a bug."""

    def operations(self) -> Mapping[str, Handler]: ...


Done: TypeAlias = Callable[[Answer | Exception], None]


@runtime_checkable
class Prompt(Protocol):
    """A Resource one of whose operations needs no task of its own while it waits for its answer."""

    prompt: str  # that operation's name

    def begin(self, call: Call, done: Done) -> bool:
        """False: this call does need one, and its handler is what to ask; nothing was done. Else `done` is called
        once, perhaps at once. Raises as a handler does, and then `done` is not called."""
        ...
