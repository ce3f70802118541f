"""Amazon resource names, taken apart.

PURE.
"""

from __future__ import annotations

import msgspec


class Arn(msgspec.Struct, frozen=True):
    """arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE; a resource may hold colons of its own."""

    partition: str
    service: str
    region: str
    account: str
    resource: str

    @classmethod
    def parse(cls, text: str) -> Arn | None:
        parts = text.split(":", 5)
        if len(parts) != 6 or parts[0] != "arn" or not (parts[1] and parts[2] and parts[5]):
            return None
        return cls(*parts[1:])

    def __str__(self) -> str:
        return f"arn:{self.partition}:{self.service}:{self.region}:{self.account}:{self.resource}"
