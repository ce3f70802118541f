"""The functions of the running node: what is invoked under a name, from one reload to the next.

Belongs here: the current version of each function and what a reload changes. Does not: making a version ready
(packages.py), environments (workers/), anything that survives the process.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

import msgspec

from eventfn.errors import FunctionNotFound
from eventfn.workers.contract import Prepared


class Changes(msgspec.Struct, frozen=True):
    """What a reload did, as names in the order of the declaration."""

    added: tuple[str, ...]
    changed: tuple[str, ...]  # another version: other code or another configuration
    removed: tuple[str, ...]


class Registry(Mapping[str, Prepared]):
    """Name -> what runs under it now. A mapping, so that the hot path is a dict look-up."""

    def __init__(self) -> None:
        self._functions: dict[str, Prepared] = {}

    def replace(self, functions: Mapping[str, Prepared]) -> Changes:
        """From now on exactly these are declared."""
        before, self._functions = self._functions, dict(functions)
        return Changes(
            added=tuple(name for name in functions if name not in before),
            changed=tuple(
                name for name, now in functions.items() if name in before and before[name].version != now.version
            ),
            removed=tuple(name for name in before if name not in functions),
        )

    def require(self, name: str) -> Prepared:
        """Raises FunctionNotFound, with the nearest name there is."""
        found = self._functions.get(name)
        if found is None:
            near = difflib.get_close_matches(name, self._functions, n=1)
            raise FunctionNotFound(name, f"did you mean '{near[0]}'?" if near else None)
        return found

    def __getitem__(self, name: str) -> Prepared:
        return self._functions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._functions)

    def __len__(self) -> int:
        return len(self._functions)
