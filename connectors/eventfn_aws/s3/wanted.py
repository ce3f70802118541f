"""Which events of which objects a trigger is about.

PURE. Names: Amazon S3, "Supported event types for SQS, SNS and Lambda", without "s3:" as they stand in an event.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

CREATED, REMOVED = "ObjectCreated:Put", "ObjectRemoved:Delete"

_KINDS = {
    "ObjectCreated": ("Put", "Post", "Copy", "CompleteMultipartUpload"),
    "ObjectRemoved": ("Delete", "DeleteMarkerCreated"),
    "ObjectRestore": ("Post", "Completed", "Delete"),
    "ObjectTagging": ("Put", "Delete"),
    "ObjectAcl": ("Put",),
    "LifecycleExpiration": ("Delete", "DeleteMarkerCreated"),
    "Replication": (
        "OperationFailedReplication",
        "OperationMissedThreshold",
        "OperationReplicatedAfterThreshold",
        "OperationNotTracked",
    ),
}
_SINGLE = ("ReducedRedundancyLostObject", "LifecycleTransition", "IntelligentTiering")
EVENTS = (
    *(f"{kind}:{action}" for kind, actions in _KINDS.items() for action in ("*", *actions) if kind != "ObjectAcl"),
    "ObjectAcl:Put",
    *_SINGLE,
)
# A listing shows that an object is there, or is not; not by which request it came.
LISTED = ("ObjectCreated:*", CREATED, "ObjectRemoved:*", REMOVED)

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def is_bucket(name: str) -> bool:
    return _BUCKET.fullmatch(name) is not None and ".." not in name


class Wanted(msgspec.Struct, frozen=True):
    """Keys, prefix and suffix are plain, as the object was written: "holidays/red flower.jpg"."""

    bucket: str | None
    events: Sequence[str]
    prefix: str
    suffix: str

    def has_event(self, name: str) -> bool:
        return name in self.events or f"{name.partition(':')[0]}:*" in self.events

    def has_object(self, bucket: str, key: str) -> bool:
        return self.bucket in (None, bucket) and key.startswith(self.prefix) and key.endswith(self.suffix)
