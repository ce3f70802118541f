from __future__ import annotations

import json
from pathlib import Path

import click
import msgspec

from eventfn import config
from eventfn.cli.options import json_option
from eventfn.cli.words import plural, print_problems
from eventfn.errors import ConfigError
from eventfn.plugins import Plugins


@click.command()
@click.argument("target", default=".", type=click.Path(path_type=Path))
@json_option
def check(target: Path, as_json: bool) -> int:
    """Say everything that is wrong with a project, and start nothing.

    TARGET is a folder, an eventfn.toml or a Python file; without it the current folder. Settings of connectors are
    checked too. Exit code 1 when something is wrong; with --json a list of {file, line, key, message, hint}.
    """
    try:
        project = config.load(target, Plugins.installed(), read_handlers=True)
    except ConfigError as error:
        if as_json:
            click.echo(json.dumps(msgspec.to_builtins(error.problems)))
        else:
            print_problems(error.problems)
        return 1
    if as_json:
        click.echo("[]")
    else:
        triggers = sum(len(function.triggers) for function in project.functions.values())
        click.echo(f"ok: {plural(len(project.functions), 'function')}, {plural(triggers, 'trigger')}")
    return 0
