from collections.abc import Sequence
from importlib.metadata import Distribution, EntryPoint, EntryPoints
from typing import Any

import msgspec
import pytest

from eventfn import plugins
from eventfn.plugins import Plugins, PluginUnusable
from eventfn.trigger import Traits


class Pulled:
    class Settings(msgspec.Struct):
        topic: str

    Shared = None
    traits = Traits(invocation="request_response")

    def connect(self) -> None: ...
    def read(self) -> None: ...
    def settle(self) -> None: ...
    def close(self) -> None: ...


class Listening(Pulled):
    traits = Traits(invocation="listen")

    def check(self) -> None: ...
    def mount(self) -> None: ...
    def open(self) -> None: ...
    def drain(self) -> None: ...


class Sink:
    class Settings(msgspec.Struct): ...

    idempotent = False

    def check(self) -> None: ...
    def connect(self) -> None: ...
    def write(self) -> None: ...
    def close(self) -> None: ...


def refused(kind: str, plugin: Any) -> str:
    found = Plugins(triggers={"x": plugin}, destinations={"x": plugin})
    with pytest.raises(PluginUnusable) as raised:
        found.trigger("x") if kind == "trigger" else found.destination("x")
    return raised.value.message


def test_classes_given_by_hand() -> None:
    found = Plugins(triggers={"kafka": Pulled, "web": Listening}, destinations={"sink": Sink})
    classes: list[Any] = [found.trigger("kafka"), found.trigger("web"), found.destination("sink")]
    assert classes == [Pulled, Listening, Sink]
    assert found.trigger_names == ["kafka", "web"]
    assert found.destination_names == ["sink"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("kafak", "did you mean 'kafka'?"), ("zzz", "installed triggers: cron, kafka")],
)
def test_an_unknown_name(name: str, hint: str) -> None:
    with pytest.raises(PluginUnusable) as raised:
        Plugins(triggers={"kafka": Pulled, "cron": Pulled}).trigger(name)
    assert (raised.value.message, raised.value.hint) == (f"no trigger is called '{name}'", hint)


class NoSettings(Pulled):
    Settings: Any = dict


class BadShared(Pulled):
    Shared: Any = dict


class NoTraits(Pulled):
    traits: Any = "event"


class WrongTraits(Pulled):
    traits: Any = Traits(invocation="request_response", ack="recrd")  # type: ignore[arg-type]


class ByPosition(Pulled):
    traits = Traits(invocation="request_response", ack="prefix")


class Forgetful(Pulled):
    traits = Traits(invocation="request_response", ack="none")


class HostsKeys(Pulled):
    class Settings(msgspec.Struct):
        topic: str
        batch_size: int
        type: str


class NoMethods(Listening):
    mount: Any = None
    drain: Any = None


class NotIdempotent(Sink):
    idempotent: Any = None


@pytest.mark.parametrize(
    ("kind", "plugin", "what"),
    [
        ("trigger", "text", "'text' is not a class"),
        ("trigger", NoSettings, "NoSettings.Settings must be a msgspec.Struct type"),
        ("trigger", BadShared, "BadShared.Shared must be a msgspec.Struct type, or None"),
        ("trigger", NoTraits, "NoTraits.traits must be an eventfn.trigger.Traits"),
        ("trigger", WrongTraits, "WrongTraits.traits: Invalid enum value 'recrd' - at `$.ack`"),
        ("trigger", ByPosition, "ByPosition lacks open_shard"),
        (
            "trigger",
            Forgetful,
            'a source that cannot redeliver (ack="none") hands over durable events: invocation="event"',
        ),
        ("trigger", HostsKeys, "HostsKeys.Settings has keys that are the host's: batch_size, type"),
        ("trigger", NoMethods, "NoMethods lacks mount, drain"),
        ("trigger", Sink, "Sink.Shared must be a msgspec.Struct type, or None"),
        ("destination", NotIdempotent, "NotIdempotent.idempotent must be True or False"),
        ("destination", Pulled, "Pulled.idempotent must be True or False"),
    ],
)
def test_a_class_is_held_against_the_contract(kind: str, plugin: Any, what: str) -> None:
    assert refused(kind, plugin) == f"the {kind} 'x' does not keep eventfn's contract: {what}"


# --- entry points ----------------------------------------------------------------------------------------------------


class Package(Distribution):
    def __init__(self, name: str) -> None:
        self._name = name

    def read_text(self, filename: str) -> str | None:
        return f"Metadata-Version: 2.1\nName: {self._name}\nVersion: 1.2\n" if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        raise AssertionError("nothing of it is read")


def entry_point(value: str, package: str = "eventfn-kafka") -> EntryPoint:
    made = EntryPoint("kafka", value, "eventfn.triggers")
    vars(made)["dist"] = Package(package)  # what importlib.metadata does with those that it finds
    return made


def installed(monkeypatch: pytest.MonkeyPatch, found: Sequence[EntryPoint]) -> Plugins:
    monkeypatch.setattr(plugins, "entry_points", lambda: EntryPoints(found))
    return Plugins.installed()


def test_an_entry_point_is_loaded_when_it_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "lazy_kafka.py").write_text("raise AssertionError('loaded')")
    monkeypatch.syspath_prepend(tmp_path)
    found = installed(monkeypatch, [entry_point("lazy_kafka:Trigger")])
    assert found.trigger_names == ["kafka"]
    with pytest.raises(PluginUnusable) as raised:
        found.trigger("kafka")
    assert raised.value.message == (
        "the trigger 'kafka' of the package eventfn-kafka 1.2 cannot be loaded: AssertionError: loaded"
    )


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("no_such_module:Trigger", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("json:Trigger", "AttributeError: module 'json' has no attribute 'Trigger'"),
    ],
)
def test_an_entry_point_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch, value: str, error: str) -> None:
    with pytest.raises(PluginUnusable) as raised:
        installed(monkeypatch, [entry_point(value)]).trigger("kafka")
    assert raised.value.message == (f"the trigger 'kafka' of the package eventfn-kafka 1.2 cannot be loaded: {error}")


def test_two_packages_with_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    found = installed(monkeypatch, [entry_point("a:T", "ours"), entry_point("b:T", "theirs"), entry_point("a:T")])
    with pytest.raises(PluginUnusable) as raised:
        found.trigger("kafka")
    assert raised.value.message == "the trigger 'kafka' is provided by ours 1.2 and theirs 1.2"
    assert raised.value.hint == "uninstall all but one"


def test_one_package_that_is_listed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginUnusable, match="cannot be loaded"):
        installed(monkeypatch, [entry_point("no_such:T"), entry_point("no_such:T")]).trigger("kafka")


def test_what_comes_with_eventfn_keeps_the_contract() -> None:
    found = Plugins.installed()
    for name in ("cron", "files", "http", "queue"):
        assert found.trigger(name).traits.invocation in ("event", "listen", "request_response")
    for scheme in ("file", "fn", "https", "queue"):
        assert found.destination(scheme).idempotent in (True, False)
