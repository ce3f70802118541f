from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from string import Template

import click

from eventfn.cli.failing import CannotRun, Failed
from eventfn.cli.group import Group
from eventfn.cli.options import json_option

FUNCTION_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # Lambda's
CONNECTOR_NAME = re.compile(r"[a-z][a-z0-9_]*")  # of an entry point, a table in eventfn.toml and a package
SETTINGS = "eventfn.toml"


@click.group(cls=Group)
def new() -> None:
    """Start a function or a connector. Nothing that is there is overwritten."""


@new.command()
@click.argument("name")
@json_option
def function(name: str, as_json: bool) -> None:
    """Start the function NAME in the current folder: code, a route in eventfn.toml, a test."""
    if not FUNCTION_NAME.fullmatch(name):
        raise CannotRun(f"'{name}' is no name for a function: letters, digits, - and _, at most 64 of them")
    names = {"name": name, "module": _module(name)}
    files = {
        f"functions/{name}/{names['module']}.py": _filled("function/handler.py", names),
        f"tests/test_{names['module']}.py": _filled("function/test_handler.py", names),
    }
    declaration = _filled("function/declaration.toml", names)
    settings = _with_table(Path(SETTINGS), name, declaration)  # before anything is written: it may be refused
    created = _create(Path(), files)
    Path(SETTINGS).write_text(settings, encoding="utf-8")
    _tell([*created, SETTINGS], "eventfn run", as_json)


@new.command()
@click.argument("name")
@json_option
def connector(name: str, as_json: bool) -> None:
    """Start the connector NAME, a package of its own in the folder eventfn-NAME: a trigger and a destination that work,
    with a server in memory, their README, and tests that run eventfn's conformance suites on both."""
    if not CONNECTOR_NAME.fullmatch(name):
        raise CannotRun(f"'{name}' is no name for a connector: lower-case letters, digits and _, a letter first")
    package = f"eventfn_{name}"
    names = {
        "name": name,
        "dashed": name.replace("_", "-"),
        "package": package,
        "Class": name.title().replace("_", ""),
        "sample": "",
    }
    names["sample"] = _filled("connector/sample.toml", names).rstrip()
    files = {f"{folder}{file}": _filled(f"connector/{file}", names) for folder, file in _parts_of_a_connector(package)}
    files[f"{package}/py.typed"] = ""
    files["tests/__init__.py"] = ""
    folder = Path(f"eventfn-{names['dashed']}")
    created = _create(folder, files)
    _tell(created, f"cd {folder} && pip install -e '.[testing]' && pytest", as_json)


def _parts_of_a_connector(package: str) -> list[tuple[str, str]]:
    """(folder, file), in the order in which they are best read."""
    return [
        ("", "README.md"),
        ("", "pyproject.toml"),
        *((f"{package}/", file) for file in ("__init__.py", "trigger.py", "destination.py", "line.py", "sample.toml")),
        *(("tests/", file) for file in ("server.py", "conftest.py", "test_trigger.py", "test_destination.py")),
    ]


def _module(name: str) -> str:
    """A name that Python can import: thumbnail-small becomes thumbnail_small."""
    module = name.replace("-", "_")
    return module if module.isidentifier() else f"f_{module}"


def _filled(template: str, names: Mapping[str, str]) -> str:
    text = resources.files("eventfn.cli").joinpath(f"scaffolds/{template}.tmpl").read_text(encoding="utf-8")
    return Template(text).substitute(names)


def _with_table(file: Path, name: str, declaration: str) -> str:
    """The text of eventfn.toml with the declaration at its end. Raises Failed when it cannot just be appended."""
    if not file.exists():
        return declaration
    text = file.read_text(encoding="utf-8")
    try:
        if name in tomllib.loads(text).get("functions", {}):
            raise Failed(f"{file}: [functions.{name}] is there already")
        joined = f"{text.rstrip()}\n\n{declaration}"
        tomllib.loads(joined)
    except tomllib.TOMLDecodeError as error:
        raise Failed(f"{file}: cannot add [functions.{name}]: {error}; see 'eventfn check'") from error
    return joined


def _create(folder: Path, files: Mapping[str, str]) -> list[str]:
    """All of the files or, when one is there already, none of them."""
    paths = {folder / name: text for name, text in files.items()}
    for path in paths:
        if path.exists():
            raise Failed(f"{path} is there already: nothing was written")
    for path, text in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [str(path) for path in paths]


def _tell(files: list[str], following: str, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"files": files, "next": following}))
        return
    for file in files:
        click.echo(f"wrote {file}")
    click.echo(f"next: {following}")
