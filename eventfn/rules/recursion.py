"""Functions that invoke themselves, by way of others or not: how often each has run in one chain of invocations.

PURE. The count travels in the trace header, which a function finds in _X_AMZN_TRACE_ID and AWS's SDKs send on:

    Root=1-...;Parent=...;Sampled=0;Lineage=1f2e3d4c:3|5a6b7c8d:1

Source: contract, "Recursion detection". Not here: what becomes of an invocation that is one too many (bus/).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from urllib.parse import unquote

MOST = 16  # invocations of one function in one chain, Lambda's
TRACE_HEADER = "AWSTraceHeader"  # of a message that has waited in a queue

_FIELD = "Lineage="
_MOST_FUNCTIONS = 32  # of a chain that are told apart: whoever writes a longer header is none of ours


def mark(arn: str) -> str:
    """What a function is called in a lineage: all versions of it are the same one."""
    return hashlib.sha256(arn.encode()).hexdigest()[:8]


def unrooted(arn: str) -> str:
    """What follows the root in the trace header of an invocation that is the first one of a chain."""
    digest = hashlib.sha256(f"trace of {arn}".encode()).hexdigest()
    return f";Parent={digest[:16]};Sampled=0;{_FIELD}{mark(arn)}:1"


def rooted(unrooted: str, request_id: str, now_ms: int) -> str:
    """The trace header of an invocation that nobody has traced. Its root is the chain's own, as logs are told apart
    by it: X-Ray's version, the second, and 96 bits, which are the request id's."""
    chain = request_id.replace("-", "")[8:]
    if len(chain) != 24:  # no UUID: somebody has given the request an id of his own
        chain = hashlib.sha256(request_id.encode()).hexdigest()[:24]
    return f"Root=1-{now_ms // 1000:08x}-{chain}{unrooted}"


def stepped(trace: str, own: str) -> tuple[str, int]:
    """The trace header with one more invocation of the function with this mark, and how many these are by now."""
    fields = [field for field in trace.split(";") if field]
    counts = _lineage(trace)
    counts[own] = count = counts.pop(own, 0) + 1
    kept = list(counts.items())[-_MOST_FUNCTIONS:]
    others = [field for field in fields if not field.startswith(_FIELD)]
    return ";".join([*others, _FIELD + "|".join(f"{name}:{times}" for name, times in kept)]), count


def furthest(traces: Iterable[str]) -> str:
    """Of the trace headers of records that are handled together the one that goes on: where a function ran most."""
    return max(traces, key=lambda trace: max(_lineage(trace).values(), default=0))


def _lineage(trace: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for field in trace.split(";"):
        if field.startswith(_FIELD):
            counts = _counts(unquote(field.removeprefix(_FIELD)))
    return counts


def _counts(lineage: str) -> dict[str, int]:
    """What is no pair of a mark and a small number is left out."""
    found: dict[str, int] = {}
    for pair in lineage.split("|"):
        name, _, times = pair.rpartition(":")
        if (
            len(name) == 8
            and name.isascii()
            and name.isalnum()
            and times.isascii()
            and times.isdigit()
            and len(times) < 6
        ):
            found[name] = int(times)
    return found
