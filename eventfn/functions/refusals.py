"""What Lambda's API answers when it refuses: its own code and its own words. Rules raise it; api/errors.py sends it.

PURE.
"""

from __future__ import annotations

from eventfn.errors import Refused


class Refusal(Refused):
    """`code` is of the service model: "InvalidParameterValueException". `typed`: the answer has a "Type", as most."""

    def __init__(self, code: str, message: str | None, *, typed: bool = True) -> None:
        self.code = code
        self.message = message
        self.typed = typed
        super().__init__(message or "")


def invalid(message: str, *, typed: bool = True) -> Refusal:
    return Refusal("InvalidParameterValueException", message, typed=typed)


def conflict(message: str) -> Refusal:
    return Refusal("ResourceConflictException", message)


def missing(message: str = "The resource you requested does not exist.") -> Refusal:
    return Refusal("ResourceNotFoundException", message)


def stale(call: str) -> Refusal:
    """The RevisionId of a request is not the latest. `call` says where that is found: "GetFunction/GetAlias"."""
    return Refusal(
        "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. "
        f"Call the {call} API to retrieve the latest Revision Id",
    )
