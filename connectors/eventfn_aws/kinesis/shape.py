"""A record of Kinesis in the shape in which Lambda hands it to a function. Source: AWS Lambda, "Using Lambda with
Amazon Kinesis".

PURE.
"""

from __future__ import annotations

import binascii
from typing import NamedTuple

import msgspec

_encode = msgspec.json.Encoder().encode


class Place(NamedTuple):
    """What all records of a shard have in common."""

    shard: str
    stream_arn: str
    region: str
    role_arn: str


def stream_arn(stream: str, region: str, account: str) -> str:
    return f"arn:aws:kinesis:{region}:{account}:stream/{stream}"


def role_arn(account: str) -> str:
    """Who reads: in Lambda the function's role. Functions have none here."""
    return f"arn:aws:iam::{account}:role/eventfn"


class Shape:
    """One element of "Records", as JSON; keys in Kinesis' order. Put together from its parts, as a batch has thousands
    and almost all of one is its data."""

    def __init__(self, place: Place) -> None:
        self._shard = _encode(place.shard)[1:-1]
        self._tail = (
            b'","eventName":"aws:kinesis:record","invokeIdentityArn":%b,"awsRegion":%b,"eventSourceARN":%b}'
            % (_encode(place.role_arn), _encode(place.region), _encode(place.stream_arn))
        )

    def record(self, partition_key: str, sequence_number: str, data: bytes, arrived_ms: int) -> bytes:
        sequence = sequence_number.encode()
        return b"".join(
            (
                b'{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":',
                _encode(partition_key),
                b',"sequenceNumber":"',
                sequence,
                b'","data":"',
                binascii.b2a_base64(data, newline=False),
                b'","approximateArrivalTimestamp":',
                _encode(arrived_ms / 1000),
                b'},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"',
                self._shard,
                b":",
                sequence,
                self._tail,
            )
        )
