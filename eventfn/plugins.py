"""Entry points -> trigger and destination classes. Our own connectors are found exactly as a stranger's are.

A class is imported when its name is first used, and held against the contract (trigger.py, destination.py) before
anything is built with it. What is wrong with one is a PluginUnusable, which config.py reports at the key that names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

import msgspec

from eventfn.declaring.settings import did_you_mean
from eventfn.destination import Destination
from eventfn.functions.model import BATCHING, STREAMING
from eventfn.trigger import Listener, Stream, Traits, Trigger

TriggerClass = type[Trigger] | type[Stream] | type[Listener]
Kind = Literal["trigger", "destination"]

_PULLED_METHODS = ("connect", "read", "settle", "close")
_STREAM_METHODS = ("connect", "open_shard", "close")
_LISTENER_METHODS = ("check", "mount", "open", "drain", "close")
_DESTINATION_METHODS = ("check", "connect", "write", "close")


class PluginUnusable(Exception):
    """No plugin of that name is installed, or it cannot be loaded, or it does not keep the contract."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = message
        self.hint = hint
        super().__init__(message)


class Plugins:
    """The connectors at hand, by name. `Plugins.installed()` for what pip installed; classes given by hand in tests."""

    def __init__(
        self,
        triggers: Mapping[str, Any] | None = None,
        destinations: Mapping[str, Any] | None = None,
    ) -> None:
        self._triggers = dict(triggers or {})
        self._destinations = dict(destinations or {})
        self._loaded: dict[tuple[Kind, str], Any] = {}

    @classmethod
    def installed(cls) -> Plugins:
        found = entry_points()  # once for both: it reads a file of every package that is installed
        return cls(
            _by_name(found.select(group="eventfn.triggers")),
            _by_name(found.select(group="eventfn.destinations")),
        )

    @property
    def trigger_names(self) -> list[str]:
        return sorted(self._triggers)

    @property
    def destination_names(self) -> list[str]:
        return sorted(self._destinations)

    def trigger(self, name: str) -> TriggerClass:
        """Raises PluginUnusable."""
        found: TriggerClass = self._load("trigger", name, self._triggers)
        return found

    def destination(self, scheme: str) -> type[Destination]:
        """Raises PluginUnusable."""
        found: type[Destination] = self._load("destination", scheme, self._destinations)
        return found

    def _load(self, kind: Kind, name: str, known: Mapping[str, Any]) -> Any:
        if (kind, name) not in self._loaded:
            if name not in known:
                raise PluginUnusable(f"no {kind} is called '{name}'", did_you_mean(name, known, f"installed {kind}s"))
            found = known[name]
            if isinstance(found, _Installed):
                found = _imported(kind, name, found.candidates)
            _check(kind, name, found)
            self._loaded[kind, name] = found
        return self._loaded[kind, name]


class _Installed(msgspec.Struct, frozen=True):
    """A name as pip's metadata has it; several candidates are an error once the name is used."""

    candidates: list[EntryPoint]


def _by_name(found: Iterable[EntryPoint]) -> dict[str, _Installed]:
    named: dict[str, list[EntryPoint]] = {}
    for entry_point in found:
        # An editable install may be listed twice, by its metadata in the source tree and in site-packages.
        if not any(other.value == entry_point.value for other in named.get(entry_point.name, ())):
            named.setdefault(entry_point.name, []).append(entry_point)
    return {name: _Installed(candidates) for name, candidates in named.items()}


def _imported(kind: Kind, name: str, candidates: list[EntryPoint]) -> Any:
    if len(candidates) > 1:
        packages = " and ".join(sorted(_package(candidate) for candidate in candidates))
        raise PluginUnusable(f"the {kind} '{name}' is provided by {packages}", "uninstall all but one")
    entry_point = candidates[0]
    try:
        return entry_point.load()
    except Exception as error:  # whatever a stranger's module raises while it is imported
        raise PluginUnusable(
            f"the {kind} '{name}' of the package {_package(entry_point)} cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error


def _package(entry_point: EntryPoint) -> str:
    return f"{entry_point.dist.name} {entry_point.dist.version}" if entry_point.dist else entry_point.module


def _check(kind: Kind, name: str, plugin: object) -> None:
    def refuse(what: str) -> PluginUnusable:
        return PluginUnusable(f"the {kind} '{name}' does not keep eventfn's contract: {what}")

    if not isinstance(plugin, type):
        raise refuse(f"{plugin!r} is not a class")
    found: Any = plugin
    settings: Any = getattr(found, "Settings", None)
    if not _is_struct(settings):
        raise refuse(f"{found.__name__}.Settings must be a msgspec.Struct type")
    if kind == "destination":
        if not isinstance(getattr(found, "idempotent", None), bool):
            raise refuse(f"{found.__name__}.idempotent must be True or False")
        methods: tuple[str, ...] = _DESTINATION_METHODS
    else:
        shared = getattr(found, "Shared", found)
        if shared is not None and not _is_struct(shared):
            raise refuse(f"{found.__name__}.Shared must be a msgspec.Struct type, or None")
        traits = getattr(found, "traits", None)
        if not isinstance(traits, Traits):
            raise refuse(f"{found.__name__}.traits must be an eventfn.trigger.Traits")
        try:
            msgspec.convert(msgspec.to_builtins(traits), Traits)  # a constructor of msgspec's checks nothing
        except msgspec.ValidationError as error:
            raise refuse(f"{found.__name__}.traits: {error}") from error
        if traits.invocation == "request_response" and traits.ack == "none":
            raise refuse('a source that cannot redeliver (ack="none") hands over durable events: invocation="event"')
        hosts = {"type", *intake_keys(traits)} & {field.encode_name for field in msgspec.structs.fields(settings)}
        if hosts:
            raise refuse(f"{found.__name__}.Settings has keys that are the host's: {', '.join(sorted(hosts))}")
        methods = (
            _LISTENER_METHODS
            if traits.invocation == "listen"
            else _STREAM_METHODS
            if is_stream(traits)
            else _PULLED_METHODS
        )
    missing = [method for method in methods if not callable(getattr(found, method, None))]
    if missing:
        raise refuse(f"{found.__name__} lacks {', '.join(missing)}")


def intake_keys(traits: Traits) -> tuple[str, ...]:
    """The keys of Intake that mean something for a source of this kind."""
    if traits.invocation == "listen":
        return ("enabled",)
    if traits.invocation == "event":
        return ("enabled", "filter_criteria")
    return ("enabled", "filter_criteria", *BATCHING, *(STREAMING if is_stream(traits) else ()))


def is_stream(traits: Traits) -> bool:
    """Whether it is read shard by shard: trigger.Stream."""
    return traits.invocation == "request_response" and traits.ack == "prefix"


def _is_struct(found: object) -> bool:
    return isinstance(found, type) and issubclass(found, msgspec.Struct)
