"""What a handler left, as bytes: its answer as Lambda's Python client writes it, or the error object."""

from __future__ import annotations

import decimal
import json
import os
import traceback
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

from eventfn.workers.child import frames

# A Decimal is written as its digits, a bare number, which the C encoder has no way to do: it leaves as a string with
# a mark that no other string can hold, and the mark and its quotes are taken off afterwards.
_MARK = uuid.uuid4().hex
_MAX_MESSAGE = 8192  # characters of an error message in a frame's header; the error object has all of it
_RUNTIME = str(Path(__file__).parent)
_NOT_THE_FUNCTIONS = (_RUNTIME, "<frozen importlib", str(Path(json.__file__).parents[1] / "importlib"))


class Fault(Exception):
    """A failure that the runtime found, with Lambda's error type. `trace` replaces the traceback."""

    def __init__(self, error_type: str, message: str, trace: list[str] | None = None) -> None:
        self.error_type = error_type
        self.trace = trace or []
        super().__init__(message)


class Iterates(Exception):
    """The answer is no value, but comes piece by piece."""

    def __init__(self, pieces: Iterator[object] | AsyncIterator[object]) -> None:
        self.pieces = pieces


class Failure:
    """An error object, and how its frame begins."""

    def __init__(self, error_type: str, message: str, trace: list[str], request_id: str) -> None:
        self.error_type = error_type
        self.message = message
        self.trace = trace
        facts = {"errorMessage": message, "errorType": error_type, "requestId": request_id, "stackTrace": trace}
        self.payload = json.dumps(facts).encode()

    @property
    def header(self) -> bytes:
        """Type and message in a frame. No line feed in a type: the message begins behind the first."""
        error_type = self.error_type[:256].replace("\n", " ")
        # The supervisor's decoder is strict: a lone surrogate in a message must not look like a broken frame.
        return f"{error_type}\n{self.message[:_MAX_MESSAGE]}".encode("utf-8", "replace")


def describe(error: BaseException, request_id: str) -> Failure:
    if isinstance(error, Fault):
        failure = Failure(error.error_type, str(error), error.trace, request_id)
    else:
        failure = Failure(type(error).__name__, str(error), _trace(error), request_id)
    return failure if len(failure.payload) <= frames.MAX_PAYLOAD else too_large(request_id)


def too_large(request_id: str) -> Failure:
    message = f"Response payload size exceeded maximum allowed payload size ({frames.MAX_PAYLOAD} bytes)."
    return Failure("Function.ResponseSizeTooLarge", message, [], request_id)


def _trace(error: BaseException) -> list[str]:
    stack = traceback.extract_tb(error.__traceback__)
    first = 0
    while first < len(stack) and stack[first].filename.startswith(_NOT_THE_FUNCTIONS):
        first += 1
    return traceback.format_list(stack[first:])


_decode_json = json.JSONDecoder().decode


def decode(payload: bytes) -> Any:
    try:
        return _decode_json(payload.decode())
    except ValueError as error:
        raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: {error}") from None


def _in_c(encoder: json.JSONEncoder) -> Callable[[object, int], tuple[str, ...]] | None:
    """The json module's own encoder in C, which it makes anew for each answer: a third of the cost of a small one."""
    make: Callable[..., Callable[[object, int], tuple[str, ...]]] | None = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return None
    quote = json.encoder.encode_basestring_ascii if encoder.ensure_ascii else json.encoder.encode_basestring
    separators = encoder.key_separator, encoder.item_separator
    circles: dict[int, object] = {}
    return make(circles, encoder.default, quote, None, *separators, encoder.sort_keys, encoder.skipkeys, True)


class Encoder:
    """Answers as JSON: NaN and Infinity as bare literals, non-ASCII as the function's runtime has it."""

    def __init__(self) -> None:
        runtime = os.environ.get("AWS_EXECUTION_ENV", "").rpartition("python3.")[2]
        before_312 = runtime.isdecimal() and int(runtime) < 12
        self._json = json.JSONEncoder(ensure_ascii=before_312, default=self._default)
        self._quick = _in_c(self._json)
        self._decimals = False

    def _default(self, value: object) -> object:
        if isinstance(value, decimal.Decimal):
            self._decimals = True
            return f"{_MARK}{value}{_MARK}"
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")

    def encode(self, answer: object) -> bytes:
        """Raises Fault for what JSON cannot say, Iterates for a generator. Bytes are the answer as they are."""
        if isinstance(answer, bytes):
            return answer
        self._decimals = False
        try:
            text = self._json.encode(answer) if self._quick is None else "".join(self._quick(answer, 0))
            if self._decimals:
                text = text.replace(f'"{_MARK}', "").replace(f'{_MARK}"', "")
            return text.encode()
        except (TypeError, ValueError, RecursionError) as error:
            self._quick = _in_c(self._json)  # what it was in the middle of would look like a circle later
            if isinstance(answer, (Iterator, AsyncIterator)):
                raise Iterates(cast("Iterator[object] | AsyncIterator[object]", answer)) from None
            raise Fault("Runtime.MarshalError", f"Unable to marshal response: {error}") from None

    def encode_apart(self, answer: Any) -> tuple[bytes, bytes]:
        """The answer to an HTTP request, its "body" apart where that is text: it is not quoted here only to be unquoted
        by the supervisor. Raises Fault."""
        if answer.__class__ is not dict or "statusCode" not in answer:
            return self.encode(answer), b""
        body = answer.get("body")
        if body.__class__ is not str or not body:
            return self.encode(answer), b""
        try:
            apart = body.encode()
        except UnicodeEncodeError:  # a lone surrogate, which JSON has an escape for
            return self.encode(answer), b""
        rest = answer.copy()
        del rest["body"]
        return self.encode(rest), apart
