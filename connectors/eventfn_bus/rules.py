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
    pattern: Pattern
    targets: tuple[Target, ...]

    def matches(self, event: Event) -> bool:
        return self.pattern.matches(event)
