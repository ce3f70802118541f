"""Options that several commands have, and the data folder that they lead to."""

from __future__ import annotations

from pathlib import Path

import click

from eventfn.errors import ConfigError
from eventfn.observe import node_file
from eventfn.units import Duration

DEFAULT_DATA = ".eventfn"

data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help=f"Data folder of the node; without it, that of the project in the current folder ({DEFAULT_DATA}).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs: JSON on standard output.")


def duration(context: click.Context, parameter: click.Parameter, value: str | None) -> Duration | None:
    """The callback of an option that takes "10s", "5m", "1h30m"."""
    try:
        return None if value is None else Duration.parse(float(value) if value.isdecimal() else value)
    except ValueError as error:
        raise click.BadParameter(f"expected {error}, not '{value}'") from error


def data_folder(given: Path | None) -> Path:
    """The folder that a command is about: the one given, or the one that the project in the current folder declares."""
    if given is not None:
        return given.absolute()
    usual = Path.cwd() / DEFAULT_DATA
    if node_file.running(usual) is not None:
        return usual  # most often: no need to read the declaration, nor to import what reads it
    from eventfn import config
    from eventfn.plugins import Plugins

    try:
        return Path(config.load(Path.cwd(), Plugins.installed()).data)
    except ConfigError:
        return usual  # it is being edited, or there is none: `eventfn check` tells
