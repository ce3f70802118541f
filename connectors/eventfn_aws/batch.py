"""Calls that do up to ten things at once and say of each whether it was done: SQS's and SNS's ...Batch operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from eventfn_aws.client import AwsError, Client
from eventfn_aws.errors import short_code

MOST = 10  # entries in one call


class Failed(msgspec.Struct, frozen=True):
    """Why one entry was not done. `sender_fault`: it never will be."""

    code: str
    message: str
    sender_fault: bool

    def __str__(self) -> str:
        return f"{self.code}: {self.message}" if self.message else self.code


async def in_one_call(
    client: Client, operation: str, key: str, entries: Sequence[Mapping[str, Any]], **parameters: Any
) -> list[Failed | None]:
    """For each entry why it was not done, or None. Raises AwsError, ConnectorError: of all of them."""
    numbered = [{"Id": str(number), **entry} for number, entry in enumerate(entries)]
    answer = await client.call(operation, **{key: numbered}, **parameters)
    done = {each["Id"] for each in answer.get("Successful", ())}
    failed = {each["Id"]: _failed(each) for each in answer.get("Failed", ())}
    unsaid = Failed("NoAnswer", f"{operation} says nothing of it", sender_fault=False)
    return [failed.get(each["Id"], None if each["Id"] in done else unsaid) for each in numbered]


def _failed(said: Mapping[str, Any]) -> Failed:
    code = short_code(str(said.get("Code", "")))
    passing = AwsError("", code, "", 400).passing  # a throttle is the sender's fault in their eyes
    return Failed(code, str(said.get("Message") or ""), bool(said.get("SenderFault")) and not passing)
