"""What S3 tells is told as one, a message or a post with several records, and is done as one.

PURE: receiving it is elsewhere (queued.py, posted.py).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import msgspec

from eventfn.event import Record
from eventfn.trigger import DONE, Reject, Retry, Settlement
from eventfn_aws.s3.shape import Origin, event, told
from eventfn_aws.s3.wanted import Wanted


class Held(msgspec.Struct):
    """Shared by the records of one notification."""

    claim: Any  # by which its sender is told
    left: int  # records that are not settled
    fate: Settlement = DONE  # Retry when one of them is to come again: then all do, and those on disk are known


def records(body: bytes | str, wanted: Wanted, origin: Origin, now_ms: int, claim: Any) -> list[Record]:
    """Of a notification, those that are wanted. Raises msgspec.DecodeError when it is none."""
    found = [
        each
        for each in told(body, origin, now_ms)
        if wanted.has_event(each.event) and wanted.has_object(each.bucket, each.key)
    ]
    held = Held(claim, len(found))
    return [
        Record(id=each.id, payload=event(each.record), arrived_ms=each.time_ms, token=held, dedupe_key=each.id)
        for each in found
    ]


def ended(ends: Iterable[tuple[Record, Settlement]], log: logging.Logger) -> list[Held]:
    """The notifications of which these were the last records."""
    whole: list[Held] = []
    for record, settlement in ends:
        held: Held = record.token
        held.left -= 1
        if isinstance(settlement, Retry):
            held.fate = settlement
        elif isinstance(settlement, Reject):
            log.error("%s: the host gave up its event: %s", record.id, settlement.reason)
        if not held.left:
            whole.append(held)
    return whole
