from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.declaring.settings import INVALID, SettingsReader, dotted
from eventfn.units import Between, Bytes, DestinationUri, Duration, Megabytes


class Server(msgspec.Struct, frozen=True, kw_only=True):
    host: str
    port: Annotated[int, Between(1, 65535)] = 80


class Range(msgspec.Struct, frozen=True):
    low: int = 0
    high: int = 10

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        if self.low < 0:
            raise ValueError(f"low: expected no negative number, got {self.low}")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    mode: Literal["fast", "safe"] = "safe"
    level: Literal[1, 2] = 1
    wait: Annotated[Duration, Between(0.1, 900)] = Duration(3)
    memory: Annotated[Megabytes, Between(32, 10_240)] = Megabytes(128)
    body: Annotated[Bytes, Between(1024, 6 * 1024**2)] = Bytes(65536)
    count: int | None = None
    ratio: Annotated[float, Between(0, 1)] = 0.5
    on: bool = False
    names: list[str] = []
    delays: tuple[Duration, ...] = ()
    tags: frozenset[str] = frozenset()
    labels: dict[str, str] = {}
    servers: list[Server] = []
    window: Range = Range()
    either: str | list[str] = ""
    short: Annotated[str, msgspec.Meta(max_length=3)] = ""
    at_least: Annotated[int, msgspec.Meta(ge=1)] = 1
    anything: Any = None
    class_: str = msgspec.field(name="class", default="")


def read(table: Any, **environ: str) -> tuple[Settings | None, list[str]]:
    reader = SettingsReader(environ)
    settings = reader.struct(Settings, table, ())
    lines = [
        f"{dotted(finding.path)}: {finding.message}" + (f" ({finding.hint})" if finding.hint else "")
        for finding in reader.findings
    ]
    return settings, lines


def test_everything_that_fits() -> None:
    settings, problems = read(
        {
            "path": "in",
            "mode": "fast",
            "level": 2,
            "wait": "1m30s",
            "memory": "1 GB",
            "body": "1 MB",
            "count": 4,
            "ratio": 1,
            "on": True,
            "names": ["a"],
            "delays": ["1m", 2],
            "tags": ["x", "x"],
            "labels": {"a": "b"},
            "servers": [{"host": "h", "port": 1}],
            "window": {"low": 1},
            "either": ["a", "b"],
            "short": "abc",
            "anything": {"deep": [1, {"er": None}]},
            "class": "first",
        }
    )
    assert problems == []
    assert settings == Settings(
        path="in",
        mode="fast",
        level=2,
        wait=Duration(90),
        memory=Megabytes(1024),
        body=Bytes(1024**2),
        count=4,
        ratio=1.0,
        on=True,
        names=["a"],
        delays=(Duration(60), Duration(2)),
        tags=frozenset({"x"}),
        labels={"a": "b"},
        servers=[Server(host="h", port=1)],
        window=Range(1, 10),
        either=["a", "b"],
        short="abc",
        anything={"deep": [1, {"er": None}]},
        class_="first",
    )
    assert isinstance(settings.wait, Duration)
    assert isinstance(settings.ratio, float)


def test_defaults_stand_in_for_what_is_not_written() -> None:
    assert read({"path": "x"}) == (Settings(path="x"), [])


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"pathh": "x", "path": "x"}, "pathh: unknown key (did you mean 'path'?)"),
        ({}, "path: is missing: expected text"),
        ("text", ': expected a table, got "text"'),
        ({"path": 5}, 'path: expected text, got 5 (in quotes: "5")'),
        ({"path": True}, "path: expected text, got true"),
        ({"path": "x" * 100}, None),
        ({"mode": "fas"}, 'mode: expected one of "fast", "safe", got "fas" (did you mean \'fast\'?)'),
        ({"mode": "other"}, 'mode: expected one of "fast", "safe", got "other"'),
        ({"level": True}, "level: expected one of 1, 2, got true"),
        (
            {"wait": "soon"},
            'wait: expected a duration such as "10s", "5m" or "6h" (a bare number is seconds), got "soon"',
        ),
        ({"wait": "20m"}, 'wait: expected 100ms to 15m, got "20m"'),
        ({"wait": 0}, "wait: expected 100ms to 15m, got 0"),
        ({"memory": "11 GB"}, 'memory: expected 32 MB to 10 GB, got "11 GB"'),
        (
            {"memory": "1 KB"},
            'memory: expected a size such as "512 MB" or "1 GB" (a bare number is MB), in whole megabytes, got "1 KB"',
        ),
        ({"body": 3}, "body: expected 1 KB to 6 MB, got 3"),
        ({"count": 1.5}, "count: expected a whole number, got 1.5"),
        ({"count": True}, "count: expected a whole number, got true"),
        ({"ratio": 2}, "ratio: expected 0 to 1, got 2"),
        ({"on": 1}, "on: expected true or false, got 1"),
        ({"names": "a"}, 'names: expected a list of text, got "a" (in brackets: ["a"])'),
        ({"names": ["a", 2]}, 'names[1]: expected text, got 2 (in quotes: "2")'),
        (
            {"delays": ["x"]},
            'delays[0]: expected a duration such as "10s", "5m" or "6h" (a bare number is seconds), got "x"',
        ),
        ({"labels": []}, "labels: expected a table, got a list"),
        ({"labels": {"a b": 1}}, 'labels."a b": expected text, got 1 (in quotes: "1")'),
        ({"servers": [{}]}, "servers[0].host: is missing: expected text"),
        ({"servers": [{"host": "h", "prot": 1}]}, "servers[0].prot: unknown key (did you mean 'port'?)"),
        ({"servers": [{"host": "h", "port": 0}]}, "servers[0].port: expected 1 to 65535, got 0"),
        ({"servers": {"host": "h"}}, "servers: expected a list of tables, got a table"),
        ({"window": {"low": 11}}, "window: low 11 is above high 10"),
        ({"window": {"low": -1}}, "window.low: expected no negative number, got -1"),
        ({"either": 3}, "either: expected text or a list of text, got 3"),
        ({"short": "long"}, 'short: expected str of length <= 3, got "long"'),
        ({"at_least": 0}, "at_least: expected int >= 1, got 0"),
        ({"class_": "x"}, "class_: unknown key (did you mean 'class'?)"),
    ],
)
def test_each_mistake_says_what_was_expected_and_what_stands_there(table: Any, problem: str | None) -> None:
    table = {"path": "x", **table} if isinstance(table, dict) and table else table
    _, problems = read(table)
    assert problems == ([] if problem is None else [problem])


def test_a_key_that_is_like_no_other_gets_them_all() -> None:
    reader = SettingsReader({})
    reader.struct(Server, {"host": "h", "zzz": 1}, (), elsewhere=("type",))
    assert [finding.hint for finding in reader.findings] == ["known keys: host, port, type"]


def test_all_mistakes_are_found_at_once() -> None:
    _, problems = read({"wait": "x", "zzz": 1, "names": [1, 2], "window": {"low": 11, "hgih": 1}})
    assert [problem.partition(":")[0] for problem in problems] == [
        "wait",
        "zzz",
        "names[0]",
        "names[1]",
        "window.hgih",
        "path",
    ]


def test_a_wrong_value_leaves_the_default_so_that_other_checks_go_on() -> None:
    settings, problems = read({"path": "x", "wait": "soon", "on": True})
    assert len(problems) == 1
    assert settings == Settings(path="x", on=True)


def test_uris_of_destinations_are_kept_wherever_they_stand() -> None:
    class Target(msgspec.Struct, frozen=True):
        uri: DestinationUri

    class Rules(msgspec.Struct, frozen=True):
        rules: dict[str, list[Target]] = {}
        either: DestinationUri | list[DestinationUri] = ""
        last: DestinationUri | None = None

    reader = SettingsReader({"TO": "here"})
    table = {"rules": {"a": [{"uri": "queue:a"}, {"uri": 5}]}, "either": ["queue:b"], "last": "queue:${TO}"}
    reader.struct(Rules, table, ("bus",))
    assert [(dotted(path), uri) for path, uri in reader.destinations] == [
        ("bus.rules.a[0].uri", "queue:a"),
        ("bus.either[0]", "queue:b"),
        ("bus.last", "queue:here"),
    ]
    assert [dotted(finding.path) for finding in reader.findings] == ["bus.rules.a[1].uri"]


def test_given_fields_are_no_keys_and_keys_elsewhere_are_known() -> None:
    reader = SettingsReader({})
    server = reader.struct(Server, {"port": 2, "type": "x"}, (), given={"host": "h"}, elsewhere=("type",))
    assert server == Server(host="h", port=2)
    assert reader.findings == []
    reader.struct(Server, {"host": "h"}, (), given={"host": "h"})
    assert [finding.message for finding in reader.findings] == ["unknown key"]


# --- the operator's environment --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${NAME}", "ada"),
        ("x-${NAME}-${NAME}", "x-ada-ada"),
        ("${UNSET:-default}", "default"),
        ("${UNSET:-}", ""),
        ("${EMPTY:-default}", "default"),
        ("${EMPTY}", ""),
        ("${NAME:-default}", "ada"),
        ("$${NAME}", "${NAME}"),
        ("$$${NAME}", "$${NAME}"),
        ("$NAME $ {NAME} {}", "$NAME $ {NAME} {}"),
        ("${NESTED}", "${NAME}"),
    ],
)
def test_text_refers_to_the_environment(written: str, value: str) -> None:
    settings, problems = read({"path": written, "names": [written], "anything": [{"key": written}]}, **ENVIRONMENT)
    assert problems == []
    assert settings == Settings(path=value, names=[value], anything=[{"key": value}])


ENVIRONMENT = {"NAME": "ada", "EMPTY": "", "NESTED": "${NAME}", "PORT": "8080", "YES": "true", "SECRET": "hunter2"}


def test_a_variable_may_hold_a_number_where_one_is_expected() -> None:
    settings, problems = read(
        {"path": "x", "count": "${PORT}", "on": "${YES}", "ratio": "${UNSET:-0.25}", "wait": "${UNSET:-5s}"},
        **ENVIRONMENT,
    )
    assert problems == []
    assert settings == Settings(path="x", count=8080, on=True, ratio=0.25, wait=Duration(5))


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (
            {"path": "${MISSING}"},
            'path: the environment variable MISSING is not set (set it, or write "${MISSING:-default}")',
        ),
        (
            {"path": "x", "anything": [{"k": "${MISSING}"}]},
            'anything[0].k: the environment variable MISSING is not set (set it, or write "${MISSING:-default}")',
        ),
        (
            {"path": "${not a name}"},
            'path: expected "${NAME}" or "${NAME:-default}", got "${not a name}" (a literal "${" is written "$${")',
        ),
        ({"path": "x", "count": "5"}, 'count: expected a whole number, got "5"'),
    ],
)
def test_mistakes_in_references(table: Any, problem: str) -> None:
    _, problems = read(table, **ENVIRONMENT)
    assert problems == [problem]


def test_no_message_shows_what_a_variable_holds() -> None:
    table = {"path": "x"} | dict.fromkeys(("mode", "wait", "count", "short", "either", "on"), "${SECRET}")
    _, problems = read(table, **ENVIRONMENT)
    assert len(problems) == 5  # `either` takes text
    assert "hunter2" not in "".join(problems)


@given(st.text())
def test_doubling_the_dollar_makes_any_text_literal(text: str) -> None:
    reader = SettingsReader({})
    assert reader.value(str, text.replace("${", "$${"), ()) == text


# --- nothing raises --------------------------------------------------------------------------------------------------

toml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([field.type for field in msgspec.structs.fields(Settings)]), toml_values)
def test_any_value_for_any_type_is_a_value_or_a_finding(kind: Any, raw: Any) -> None:
    reader = SettingsReader({})
    value = reader.value(kind, raw, ("key",))
    assert (value is INVALID) <= bool(reader.findings)
    if not reader.findings and kind is not Any:
        msgspec.convert(value, kind, dec_hook=lambda wanted, found: wanted(found))
