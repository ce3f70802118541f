"""The keys of a `type = "s3"` trigger, and of [s3]."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

import msgspec

from eventfn.units import Between, Duration
from eventfn_aws.s3.wanted import EVENTS, LISTED, Wanted, is_bucket
from eventfn_aws.settings import AwsSettings
from eventfn_aws.sns.trigger import address
from eventfn_aws.sqs.names import QueueName

EVERY = 30.0  # seconds

# Which keys belong to one way of hearing of objects, and do nothing with the others.
_OF = {"list": ("every", "existing"), "queue": ("queue",), "webhook": ("path",)}


class S3Settings(msgspec.Struct, frozen=True, kw_only=True):
    notifications: Literal["list", "queue", "webhook"] = "list"
    bucket: str | None = None  # None: every bucket that the notifications are about
    events: tuple[str, ...] = ("ObjectCreated:*",)
    prefix: str = ""
    suffix: str = ""
    every: Annotated[Duration, Between(1, 86_400)] | None = None  # None: EVERY
    existing: Literal["announce", "skip"] | None = None  # None: "announce"
    queue: str | None = None  # name, URL or ARN
    path: str | None = None  # None: "/"

    def __post_init__(self) -> None:
        for way, keys in _OF.items():
            for key in keys:
                if way != self.notifications and getattr(self, key) is not None:
                    raise ValueError(f'{key}: expected only beside notifications = "{way}"')
        if self.bucket is not None and not is_bucket(self.bucket):
            raise ValueError(f'bucket: expected a bucket\'s name such as "my-photos", not {self.bucket!r}')
        known = LISTED if self.notifications == "list" else EVENTS
        if not self.events:
            raise ValueError(f"events: expected at least one of {', '.join(known)}")
        for event in self.events:
            if event not in known:
                listed = ", which are all that a listing shows" if event in EVENTS else ""
                raise ValueError(f"events: expected {', '.join(known)}{listed}, not {event!r}")
        if self.notifications == "list" and self.bucket is None:
            raise ValueError("bucket: expected the name of the bucket that is to be listed")
        if self.notifications == "queue":
            if self.queue is None:
                raise ValueError("queue: expected the queue that S3 tells: its name, URL or ARN")
            try:
                name = QueueName.parse(self.queue)
            except ValueError as error:
                raise ValueError(f"queue: {error}") from None
            if name.fifo:
                raise ValueError("queue: expected a standard queue, since S3 tells no FIFO queue")
        if self.path is not None and (
            not self.path.startswith("/") or not self.path.isprintable() or set(self.path) & set(" ?#%")
        ):
            raise ValueError('path: expected a path such as "/photos"')

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.bucket, self.events, self.prefix, self.suffix)


class S3Shared(AwsSettings, frozen=True, kw_only=True):
    """[s3]"""

    listen: str = "127.0.0.1:8091"
    webhook_token: str | None = None  # who posts knows it

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            host, _ = address(self.listen)
        except ValueError as error:
            raise ValueError(f"listen: {error}") from None
        if self.webhook_token is None and not ipaddress.ip_address(host).is_loopback:
            raise ValueError(
                "webhook_token: expected one, since anybody who reaches this address could make events: "
                "choose a token and give it to the store, or listen on 127.0.0.1"
            )
        if self.webhook_token is not None and not self.webhook_token.strip():
            raise ValueError("webhook_token: expected a text that nobody guesses, and it is empty")
