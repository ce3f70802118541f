"""What we have of a queue and not settled yet, by delivery tag; the broker counts it against the prefetch.

PURE.
"""

from __future__ import annotations

import msgspec


class Outstanding:
    """Delivery tags grow by one with each delivery of a channel, so they stand here in order."""

    def __init__(self) -> None:
        self._tags: dict[int, None] = {}

    def __len__(self) -> int:
        return len(self._tags)

    def add(self, tag: int) -> None:
        self._tags[tag] = None

    def discard(self, tag: int) -> None:
        self._tags.pop(tag, None)

    def acknowledge(self, tags: set[int]) -> list[Ack]:
        """The fewest acks for these. All at the front go in one: "up to here" must not take what is still worked on."""
        upto: list[int] = []
        for tag in self._tags:
            if tag not in tags:
                break
            upto.append(tag)
        acks = [Ack(upto[-1], multiple=len(upto) > 1)] if upto else []
        acks += [Ack(tag, multiple=False) for tag in sorted(tags.difference(upto))]
        for tag in tags:
            self.discard(tag)
        return acks


class Ack(msgspec.Struct, frozen=True):
    tag: int
    multiple: bool
