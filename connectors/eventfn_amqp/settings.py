"""What eventfn.toml says of a queue that is consumed."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from eventfn.units import Between, Duration

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]  # AMQP's short strings


class QueueSettings(msgspec.Struct, frozen=True, kw_only=True):
    queue: Name
    broker: str | None = None  # of [amqp.brokers.NAME]; None: [amqp] itself
    declare: bool = False  # create the queue, and its dead letter queue, where they are not there
    queue_type: Literal["quorum", "classic"] = "quorum"  # of what is created
    arguments: dict[str, str | int | bool] = {}  # of the queue that is created: "x-delivery-limit" ...
    prefetch: Annotated[int, Between(1, 65_535)] = 250  # messages that the broker hands over and are not settled
    retry_delay: Annotated[Duration, Between(0, 600)] = Duration(1)  # before a failed message goes back to the queue
    dead_letter_queue: Name | None = None  # None: eventfn's own dead letters
    event_source_arn: str | None = None  # of the broker, in events; None: one that is made of its host

    def __post_init__(self) -> None:
        if not self.declare and self.arguments:
            raise ValueError("arguments: they are of a queue that is created, so declare must be true")
        if not self.declare and self.queue_type != "quorum":
            raise ValueError("queue_type: it is of a queue that is created, so declare must be true")
        if self.dead_letter_queue == self.queue:
            raise ValueError("dead_letter_queue: a queue cannot be its own dead letters")
