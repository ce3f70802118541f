"""Records as messages of SQS and SNS, which take the same kind of batches: packed, sent, and each one's fate told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from eventfn.destination import ORIGIN, WRITTEN, Delivery, OutgoingRecord, Rejected, RetryAfter
from eventfn.errors import ConnectorError
from eventfn_aws.batch import MOST, Failed
from eventfn_aws.client import AwsError

_OWN = "eventfn."  # attributes with this prefix are the host's notes, and not Lambda's
_NUMBERS = frozenset({"ErrorCode"})  # attributes whose type is Number: Lambda's own, on dead letters
# What a request is refused with for what is in its messages.
_UNFIT = frozenset(
    {
        "BatchRequestTooLong",
        "InvalidMessageContents",
        "InvalidParameter",
        "InvalidParameterValue",
        "InvalidParameterValueException",
        "MessageTooLong",
        "ValidationError",
    }
)

Send = Callable[[Sequence[Mapping[str, Any]]], Awaitable[list[Failed | None]]]


class Parcel(msgspec.Struct, frozen=True):
    """One entry of a batch, and how many bytes of it count."""

    entry: Mapping[str, Any]
    size: int


def parcel(record: OutgoingRecord, body_key: str, *, fifo: bool) -> Parcel:
    entry: dict[str, Any] = {body_key: record.payload.decode()}
    attributes = {
        name: {"DataType": "Number" if name in _NUMBERS else "String", "StringValue": value}
        for name, value in record.attributes.items()
        if value and not name.startswith(_OWN)  # AWS takes no empty ones
    }
    if attributes:
        entry["MessageAttributes"] = attributes
    if fifo:
        # What comes from one function is kept in order.
        entry["MessageGroupId"] = record.attributes.get(ORIGIN, "eventfn")[:128]
        entry["MessageDeduplicationId"] = record.id[:128]
    size = len(record.payload) + sum(
        len(text.encode()) for name, value in attributes.items() for text in (name, *value.values())
    )
    return Parcel(entry, size)


async def write(
    records: Sequence[OutgoingRecord], body_key: str, send: Send, most_bytes: int, *, fifo: bool
) -> list[Delivery]:
    """One answer for each. `most_bytes` is what a message may have, and all of a request together too."""
    answers: list[Delivery] = []
    for request in requests([parcel(record, body_key, fifo=fifo) for record in records], most_bytes):
        refused = next((answer for answer in answers if isinstance(answer, RetryAfter)), None)
        # What comes later waits too, or it would be ahead of what is tried again.
        answers += [refused] * len(request) if refused else await _send(request, most_bytes, send)
    return answers


async def _send(request: Sequence[Parcel], most_bytes: int, send: Send) -> list[Delivery]:
    if request[0].size > most_bytes:  # then it is alone
        return [Rejected(f"{request[0].size} bytes are more than a message may have ({most_bytes})")]
    try:
        return [_delivery(failed) for failed in await send([each.entry for each in request])]
    except ConnectorError as error:
        if not (isinstance(error, AwsError) and error.code in _UNFIT):
            return [RetryAfter(str(error))] * len(request)
        if len(request) == 1:
            return [Rejected(str(error))]
        # One of them is at fault: it must not take the others with it.
        return [answer for each in request for answer in await _send([each], most_bytes, send)]


def requests(parcels: Sequence[Parcel], most_bytes: int) -> Iterator[Sequence[Parcel]]:
    """At most ten in one, in their order, of so many bytes together; what is larger by itself is alone."""
    first = 0
    while first < len(parcels):
        last, size = first + 1, parcels[first].size
        while last < min(first + MOST, len(parcels)) and size + parcels[last].size <= most_bytes:
            size += parcels[last].size
            last += 1
        yield parcels[first:last]
        first = last


def _delivery(failed: Failed | None) -> Delivery:
    if failed is None:
        return WRITTEN
    return Rejected(str(failed)) if failed.sender_fault else RetryAfter(str(failed))
