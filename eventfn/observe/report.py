"""What a node tells whoever started it, from the first line to the last. The supervisor calls, the CLI shows.

PURE: the protocol and plain data. `eventfn.cli.report` has the two that print (for people, for programs).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from eventfn.errors import Problem
from eventfn.observe.status import Wall


class Loaded(msgspec.Struct, frozen=True):
    """One declared function. A trigger is ("http", "method=GET path=/hello"): see `eventfn.observe.status.summary`."""

    name: str
    handler: str
    runtime: str
    triggers: tuple[tuple[str, str], ...] = ()


class Reporter(Protocol):
    """Called on the loop's thread, in this order; none of them raises or waits.

    preparing* -> loaded -> enforcement -> listening* -> ready -> (preparing | reloaded | problems)*
               -> draining -> drained
    """

    def preparing(self, function: str, text: str) -> None:
        """What is being done before the function can run: "installing pillow"."""
        ...

    def loaded(self, folder: str, data: str, functions: Sequence[Loaded]) -> None: ...

    def enforcement(self, walls: Sequence[Wall]) -> None: ...

    def listening(self, name: str, address: str) -> None:
        """A listener is open: ("http", "127.0.0.1:8080")."""
        ...

    def ready(self, milliseconds: float) -> None:
        """Everything listens and whatever comes is answered, so long after the start. The very first answers of each
        kind take a little longer: a process to clone, and the admin listener's library, are still on their way."""
        ...

    def reloaded(self, added: Sequence[str], changed: Sequence[str], removed: Sequence[str]) -> None:
        """By name of function, after `--watch` saw a change."""
        ...

    def problems(self, problems: Sequence[Problem]) -> None:
        """The declaration is wrong. After a reload: what ran before runs on."""
        ...

    def draining(self, in_flight: int) -> None:
        """The first signal: nothing new is taken, so many invocations are finished first."""
        ...

    def drained(self, handed_back: int) -> None:
        """The end. So many invocations were not finished in time: their events come again at the next start."""
        ...
