"""Tumbling windows: records of a shard by the time of their arrival, and a state that goes from call to call.

PURE. Shapes: Lambda, "Tumbling windows" (contract: event sources, section 4).
"""

from __future__ import annotations

import datetime

import msgspec

STATE_LIMIT = 1_048_576  # bytes of JSON; a larger state ends its window early


class Window(msgspec.Struct, frozen=True):
    """The window that is open in a lane, and the state that its next call gets."""

    start_ms: int
    state: bytes = b"{}"  # JSON


class WindowCall(msgspec.Struct, frozen=True):
    """What the event of one call says of its window."""

    start_ms: int
    end_ms: int
    state: bytes
    final: bool
    early: bool


def window_start(arrived_ms: int, length_ms: int) -> int:
    return arrived_ms // length_ms * length_ms


class _Answer(msgspec.Struct):
    state: msgspec.Raw


def state_of(payload: bytes) -> bytes:
    """The state in a function's answer, an object. Raises ValueError when there is none."""
    try:
        state = bytes(msgspec.json.decode(payload, type=_Answer).state).strip()
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f'with a tumbling window a function answers {{"state": {{...}}}}: {error}') from error
    if not state.startswith(b"{"):
        raise ValueError('with a tumbling window a function answers {"state": {...}}, and the state is no object')
    return state


def window_fields(call: WindowCall, shard: str, source_arn: str) -> bytes:
    """What stands in the event behind "Records", as JSON without the braces."""
    return b'"window":{"start":"%b","end":"%b"},"state":%b,"shardId":%b,"eventSourceARN":%b,%b' % (
        _utc(call.start_ms),
        _utc(call.end_ms),
        call.state,
        msgspec.json.encode(shard),
        msgspec.json.encode(source_arn),
        b'"isFinalInvokeForWindow":%b,"isWindowTerminatedEarly":%b' % (_json(call.final), _json(call.early)),
    )


def _utc(ms: int) -> bytes:
    """2020-07-30T17:00:00Z"""
    return f"{datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}".encode()


def _json(value: bool) -> bytes:
    return b"true" if value else b"false"
