"""Telling a queue something of many messages: in batches, and the entries of them that fail again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from eventfn.clock import Clock
from eventfn.errors import ConnectorError
from eventfn_aws.batch import MOST, Failed
from eventfn_aws.sqs.queue import Queue

_PAUSES = (0.1, 0.3)  # seconds before an entry is tried for the second and the third time


async def tell(queue: Queue, operation: str, entries: Sequence[Mapping[str, Any]], clock: Clock) -> list[int]:
    """The places of those that the queue refuses for good: their claim has lapsed.

    Raises ConnectorError when some could not be told; all others were.
    """
    left = list(range(len(entries)))
    refused: list[int] = []
    for pause in (*_PAUSES, None):
        answers = await _tell_once(queue, operation, [entries[place] for place in left])
        failures = {place: failed for place, failed in zip(left, answers, strict=True) if failed is not None}
        refused += [place for place, failed in failures.items() if failed.sender_fault]
        left = [place for place, failed in failures.items() if not failed.sender_fault]
        if not left:
            break
        if pause is None:
            raise ConnectorError(
                f"{operation} failed for {len(left)} messages of {queue.name.name}: {failures[left[0]]}"
            )
        await clock.sleep(pause)
    return refused


async def _tell_once(queue: Queue, operation: str, entries: Sequence[Mapping[str, Any]]) -> list[Failed | None]:
    chunks = [entries[first : first + MOST] for first in range(0, len(entries), MOST)]
    answers = await asyncio.gather(*(queue.each(operation, chunk) for chunk in chunks), return_exceptions=True)
    told: list[Failed | None] = []
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
        told += answer
    return told
