"""The functions of the running node: what is invoked under a name, or under a name with a qualifier.

    "thumbnail"  "thumbnail:$LATEST"  "thumbnail:3"  "thumbnail:live"

Those of eventfn.toml and those made through the API stand here side by side. Belongs here: what each of these
references leads to now. Does not: making a version ready (packages.py), environments (workers/), anything that
survives the process (store.py).
"""

from __future__ import annotations

import difflib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from eventfn.errors import FunctionNotFound, FunctionNotReady, RuntimeVersionMissing
from eventfn.functions.managed import LATEST
from eventfn.functions.model import Function
from eventfn.rules import recursion
from eventfn.workers.contract import Prepared

_MOST_COMPARED = 100


class Changes(msgspec.Struct, frozen=True):
    """What a reload did, as names in the order of the declaration."""

    added: tuple[str, ...]
    changed: tuple[str, ...]  # another version: other code or another configuration
    removed: tuple[str, ...]


class Target(msgspec.Struct, frozen=True):
    """What an invocation leads to."""

    function: Function  # with what is configured for this very qualifier: retries, destinations
    arn: str  # qualified as the caller has it: the function reads it as context.invoked_function_arn
    prepared: Prepared
    key: str  # the pool's: prepared.key, made once
    version: str  # Lambda's: "$LATEST" or "3"
    mark: str  # what it is called in a chain of invocations (rules/recursion.py)
    unrooted: str  # its trace header where it is the first of a chain, but for the root; made once
    terminates: bool = False  # a chain in which it runs too often

    @property
    def name(self) -> str:
        return self.function.name


class Split(msgspec.Struct, frozen=True):
    """An alias that shares its invocations between two versions."""

    main: Target
    additional: Target
    weight: float  # the additional one's share

    def pick(self, chance: float) -> Target:
        """`chance` is from 0.0 up to, and not, 1.0."""
        return self.additional if chance < self.weight else self.main


class NotReady(msgspec.Struct, frozen=True):
    """A function that is there and cannot be invoked, yet or any more."""

    state: str  # Lambda's: Pending, Failed ...
    runtime_error: str | None = None  # it may run only on a version of its runtime that is not here


Leads = Target | Split | NotReady


class Registry:
    """Reference -> target. A look-up is a look into a dict. `chance` decides for an alias with weights."""

    def __init__(self, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._leads: dict[str, Leads] = {}
        self._declared: dict[str, Prepared] = {}
        self._managed: dict[str, tuple[str, ...]] = {}  # name -> its references

    # --- the hot path ------------------------------------------------------------------------------------------------

    def require(self, reference: str) -> Target:
        """Raises FunctionNotFound, with the nearest name there is, and FunctionNotReady and its kind."""
        found = self._leads.get(reference)
        if type(found) is Target:
            return found
        if type(found) is Split:
            return found.pick(self._chance())
        if type(found) is NotReady:
            if found.runtime_error is not None:
                raise RuntimeVersionMissing(reference, found.state, found.runtime_error)
            raise FunctionNotReady(reference, found.state)
        raise FunctionNotFound(reference, self._hint(reference))

    def _hint(self, reference: str) -> str | None:
        """Not among a thousand: comparing with each takes milliseconds, and a caller may ask again and again."""
        names = self.names()
        near = difflib.get_close_matches(reference, names, n=1) if len(names) <= _MOST_COMPARED else []
        return f"did you mean '{near[0]}'?" if near and near[0] != reference else None

    def get(self, reference: str) -> Target | None:
        """None also for one that is not ready."""
        found = self._leads.get(reference)
        if type(found) is Split:
            return found.pick(self._chance())
        return found if type(found) is Target else None

    def log_group(self, name: str) -> str:
        """Of a function that is there, or was."""
        found = self.get(name)
        configured = None if found is None else found.function.logging_config.log_group
        return configured or f"/aws/lambda/{name}"

    def __contains__(self, reference: str) -> bool:
        """Whether there is such a function and qualifier, ready or not."""
        return reference in self._leads

    # --- what there is -----------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        """Functions, without qualifiers: those of eventfn.toml in their order, then the others in the alphabet's."""
        return [*self._declared, *sorted(self._managed)]

    def latest(self) -> Iterator[Target]:
        """$LATEST of each function that is ready, in the order of `names`."""
        for name in self.names():
            if (found := self.get(name)) is not None:
                yield found

    def keys(self, name: str) -> list[str]:
        """The pool's keys of a function's versions."""
        found: dict[str, None] = {}
        for reference in self._managed.get(name, (name,)):
            lead = self._leads.get(reference)
            targets = (lead.main, lead.additional) if type(lead) is Split else (lead,)
            found |= {target.key: None for target in targets if type(target) is Target}
        return list(found)

    def functions(self) -> list[Function]:
        """Each once, as its $LATEST."""
        return [target.function for target in self.latest()]

    def configured(self) -> Iterator[Function]:
        """Each as all of its qualifiers have it: they may have destinations of their own."""
        for lead in self._leads.values():
            found = lead.main if type(lead) is Split else lead
            if type(found) is Target:
                yield found.function

    # --- what changes it ---------------------------------------------------------------------------------------------

    def declare(self, functions: Mapping[str, Prepared]) -> Changes:
        """From now on exactly these stand in eventfn.toml."""
        before, self._declared = self._declared, dict(functions)
        for name in before:
            self._forget(_references(name))
        for name, prepared in functions.items():
            for reference, arn in zip(_references(name), (prepared.arn, f"{prepared.arn}:{LATEST}"), strict=True):
                self._leads[reference] = target(prepared.function, arn, prepared)
        return Changes(
            added=tuple(name for name in functions if name not in before),
            changed=tuple(
                name for name, now in functions.items() if name in before and before[name].version != now.version
            ),
            removed=tuple(name for name in before if name not in functions),
        )

    def manage(self, name: str, leads: Mapping[str, Leads]) -> None:
        """From now on these are the references of a function that was made through the API; none: it is gone."""
        self._forget(self._managed.pop(name, ()))
        if leads:
            self._managed[name] = tuple(leads)
            self._leads |= leads

    def _forget(self, references: Iterable[str]) -> None:
        for reference in references:
            self._leads.pop(reference, None)


def target(function: Function, arn: str, prepared: Prepared, *, terminates: bool = False) -> Target:
    mark, unrooted = recursion.mark(prepared.arn), recursion.unrooted(prepared.arn)
    return Target(function, arn, prepared, prepared.key, prepared.number, mark, unrooted, terminates)


def reference(name: str, qualifier: str | None = None) -> str:
    """How a function, or one of its qualifiers, is looked up."""
    return name if qualifier is None else f"{name}:{qualifier}"


def _references(name: str) -> Sequence[str]:
    return name, f"{name}:{LATEST}"
