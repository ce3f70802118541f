"""Several servers of one kind by name: what names one that is not declared is refused before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventfn.config import load
from eventfn.destination import named_target
from eventfn.errors import ConfigError
from eventfn.functions.model import Project
from eventfn.plugins import Plugins

PLUGINS = Plugins.installed()

# type, what its trigger needs, the key, the tables with others of its kind, what one of them needs, a destination there
KINDS = [
    ("amqp", 'queue = "q"', "broker", "brokers", 'url = "amqp://h/"', "@{}/q"),
    ("mqtt", 'client_id = "c"\ntopics = ["t"]', "broker", "brokers", 'url = "mqtt://h"', "@{}/t"),
    ("redis", 'stream = "s"', "server", "servers", 'url = "redis://h"', "@{}/s"),
    ("nats", 'stream = "s"', "cluster", "clusters", 'servers = ["nats://h:4222"]', "@{}/s"),
    ("kafka", 'topics = ["t"]', "cluster", "clusters", 'bootstrap_servers = ["h:9092"]', "{}/t"),
]
NAMES = [kind[0] for kind in KINDS]


def loaded(folder: Path, kind: tuple[str, ...], declared: str, named: str) -> Project:
    name, needs, key, tables, server, target = kind
    (folder / "a.py").write_text("def handler(event, context): ...\n")
    (folder / "eventfn.toml").write_text(
        f"""
[functions.a]
handler = "a.handler"
on_failure = "{name}:{target.format(named)}"
[[functions.a.triggers]]
type = "{name}"
{key} = "{named}"
{needs}
[{name}.{tables}.{declared}]
{server}
[destinations.{name}.{tables}.{declared}]
{server}
"""
    )
    return load(folder, PLUGINS)


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_one_of_several_servers_is_named(kind: tuple[str, ...], tmp_path: Path) -> None:
    project = loaded(tmp_path, kind, "eu-1", "eu-1")
    assert list(getattr(project.shared[kind[0]], kind[3])) == ["eu-1"]


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_a_server_that_is_not_declared_is_refused(kind: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, kind, "eu", "us")
    name, key, tables = kind[0], kind[2], kind[3]
    assert [problem.message for problem in raised.value.problems] == [
        f"no {key} is called 'us': add [destinations.{name}.{tables}.us]",
        f"no {key} is called 'us': add [{name}.{tables}.us]",
    ]


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_a_name_has_letters_digits_and_lines(kind: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, kind, '"e u"', "e u")
    problems = {(problem.key, problem.message) for problem in raised.value.problems}
    for table in (kind[0], f"destinations.{kind[0]}"):
        message = "expected str matching regex '^[A-Za-z0-9_-]+$', got \"e u\""
        assert (f'{table}.{kind[3]}."e u"', message) in problems, problems


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_a_variable_stands_in_the_table_of_a_named_server(
    kind: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, needs, key, tables, server, target = kind
    hidden = server.replace("//h", "//${ITS_HOST}").replace('"h:', '"${ITS_HOST}:')
    monkeypatch.setenv("ITS_HOST", "there")
    project = loaded(tmp_path, (name, needs, key, tables, hidden, target), "eu", "eu")
    assert "there" in str(getattr(project.shared[name], tables)["eu"])


@pytest.mark.parametrize(
    ("target", "named"),
    [
        ("orders", (None, "orders")),
        ("a/b", (None, "a/b")),
        ("@eu/orders", ("eu", "orders")),
        ("@eu/a/b", ("eu", "a/b")),
        ("@eu", ("eu", "")),
    ],
)
def test_where_the_name_stands(target: str, named: tuple[str | None, str]) -> None:
    assert named_target(target) == named
