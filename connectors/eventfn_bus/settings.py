"""The keys of `type = "bus"` triggers and of [bus], and what is wrong with them."""

from __future__ import annotations

import ipaddress
from typing import Any

import msgspec

from eventfn import schedules
from eventfn.patterns import compile_pattern
from eventfn.units import DestinationUri
from eventfn_bus import inputs
from eventfn_bus.events import DEFAULT_BUS, bus_name_mistake, rule_name_mistake
from eventfn_bus.inputs import Input

_LISTEN = 'an address of this machine and a port, such as "127.0.0.1:4010" or "[::1]:4010" (port 0 is any free)'


class InputTransformer(msgspec.Struct, frozen=True, kw_only=True):
    input_template: str
    input_paths_map: dict[str, str] = {}

    def __post_init__(self) -> None:
        inputs.template(self.input_template, self.input_paths_map)


class TargetInput(msgspec.Struct, frozen=True, kw_only=True):
    """What a target gets: at most one of the three; without any the event."""

    input: Any = msgspec.UNSET
    input_path: str | None = None
    input_transformer: InputTransformer | None = None

    def __post_init__(self) -> None:
        given = [self.input is not msgspec.UNSET, self.input_path is not None, self.input_transformer is not None]
        if sum(given) > 1:
            raise ValueError("expected one of input, input_path and input_transformer, not several of them")
        try:
            self.compiled()
        except ValueError as error:
            raise ValueError(f"input_path: {error}") from error

    def compiled(self) -> Input:
        if self.input_transformer is not None:
            return inputs.template(self.input_transformer.input_template, self.input_transformer.input_paths_map)
        if self.input_path is not None:
            return inputs.part(self.input_path)
        return inputs.whole if self.input is msgspec.UNSET else inputs.constant(self.input)


class BusSettings(TargetInput, frozen=True, kw_only=True):
    """[[functions.NAME.triggers]] with type = "bus": a rule whose target is the function."""

    event_pattern: dict[str, Any]
    bus: str = DEFAULT_BUS
    rule: str | None = None  # None: named after the function

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_bus(self.bus)
        _check_pattern(self.event_pattern)
        if self.rule is not None and (mistake := rule_name_mistake(self.rule)):
            raise ValueError(f"rule: {mistake}")


class TargetSettings(TargetInput, frozen=True, kw_only=True):
    """One of the targets of [bus.rules.NAME]."""

    uri: DestinationUri


class RuleSettings(msgspec.Struct, frozen=True, kw_only=True):
    """[bus.rules.NAME]"""

    targets: list[TargetSettings]
    event_pattern: dict[str, Any] | None = None
    schedule_expression: str | None = None
    bus: str = DEFAULT_BUS
    enabled: bool = True

    def __post_init__(self) -> None:
        _check_bus(self.bus)
        if (self.event_pattern is None) == (self.schedule_expression is None):
            raise ValueError("expected either an event_pattern or a schedule_expression")
        if self.event_pattern is not None:
            _check_pattern(self.event_pattern)
        if self.schedule_expression is not None:
            self._check_schedule(self.schedule_expression)
        if not self.targets:
            raise ValueError("targets: expected at least one")
        if any(target.uri == f"bus:{self.bus}" for target in self.targets):
            raise ValueError(f"targets: bus:{self.bus} would hand its own events to itself, again and again")

    def _check_schedule(self, expression: str) -> None:
        if self.bus != DEFAULT_BUS:
            raise ValueError("schedule_expression: is supported only on the default event bus")
        if not expression.startswith(("rate(", "cron(")):
            raise ValueError(f'schedule_expression: expected "rate(...)" or "cron(...)", got "{expression}"')
        try:
            schedules.parse(expression)
        except ValueError as error:
            raise ValueError(f"schedule_expression: {error}") from error


class BusShared(msgspec.Struct, frozen=True, kw_only=True):
    """[bus]"""

    rules: dict[str, RuleSettings] = {}
    listen: str | None = None  # where PutEvents is answered; None: nowhere
    tokens: list[str] = []

    def __post_init__(self) -> None:
        for name in self.rules:
            if mistake := rule_name_mistake(name):
                raise ValueError(f"rules: {mistake}")
        if not all(token and token == token.strip() and token.isprintable() for token in self.tokens):
            raise ValueError("tokens: each is expected to be text without spaces around it, got an empty or padded one")
        if self.listen is None:
            if self.tokens:
                raise ValueError("tokens: are for PutEvents, which needs a listen address beside them")
            return
        try:
            host, _ = address(self.listen)
        except ValueError as error:
            raise ValueError(f"listen: {error}") from error
        if not self.tokens and not ipaddress.ip_address(host).is_loopback:
            raise ValueError(
                f"listen: {self.listen} can be reached from other machines: set tokens in [bus], or listen on 127.0.0.1"
            )


def address(text: str) -> tuple[str, int]:
    """The IP address and the port of "127.0.0.1:4010", "localhost:0", "[::1]:4010". Raises ValueError."""
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        ip = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host[1:-1] if bracketed else host)
    except ValueError:
        raise ValueError(f"expected {_LISTEN}, got {text!r}") from None
    if bracketed != (ip.version == 6) or not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"expected {_LISTEN}, got {text!r}")
    return str(ip), int(port)


def _check_bus(name: str) -> None:
    if mistake := bus_name_mistake(name):
        raise ValueError(f"bus: {mistake}")


def _check_pattern(pattern: dict[str, Any]) -> None:
    try:
        compile_pattern(pattern)
    except ValueError as error:
        raise ValueError(f"event_pattern: is not valid. Reason: {error}") from error
