"""A rule: which events of a bus it is about, and who gets what of them.

PURE. What belongs here: one rule, compiled. Taking events from their queue and giving them to targets: router.py.
"""

from __future__ import annotations

import msgspec

from eventfn.patterns import Pattern
from eventfn.trigger import Caller
from eventfn_bus.events import Event
from eventfn_bus.inputs import Input


class Target(msgspec.Struct, frozen=True):
    """A function, or a destination."""

    key: str  # tells it from the rule's other targets
    input: Input
    to: Caller | str

    @property
    def name(self) -> str:
        return self.to if isinstance(self.to, str) else f"fn:{self.to.function}"


class Rule(msgspec.Struct, frozen=True):
    name: str
    arn: str
    pattern: Pattern | None  # None: a scheduled rule
    targets: tuple[Target, ...]

    def matches(self, event: Event, only: str | None) -> bool:
        """`only` is the name of the rule that the event is for, if it is for one."""
        if only is not None:
            return only == self.name
        return self.pattern is not None and self.pattern.matches(event)
