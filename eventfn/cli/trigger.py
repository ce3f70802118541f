from __future__ import annotations

from pathlib import Path

import click
import msgspec

from eventfn.cli.client import Client
from eventfn.cli.group import Group
from eventfn.cli.options import data_folder, data_option, json_option
from eventfn.cli.safe import safe
from eventfn.cli.tables import Table
from eventfn.observe.status import SourceStatus, Status


@click.group(cls=Group)
def trigger() -> None:
    """List the triggers of the running node; switch them off and on."""


@trigger.command("list")
@data_option
@json_option
def list_triggers(data: Path | None, as_json: bool) -> None:
    """List the triggers by the names that `enable` and `disable` take."""
    status = msgspec.json.decode(Client(data_folder(data)).call("GET", "/status"), type=Status)
    triggers = [each for function in status.functions for each in function.triggers]
    if as_json:
        click.echo(msgspec.json.encode(triggers))
        return
    if not triggers:
        click.echo("no triggers: declare one as [[functions.NAME.triggers]], or make an event source mapping")
        return
    shown = Table("trigger", "state", "from", "settings")
    for each in triggers:
        state = f"{each.state}: {each.reason}" if each.reason else each.state
        cells = [each.source, state, Path(each.where).name, each.settings]
        shown.add(*map(safe, cells), colour="red" if each.state == "down" else None)
    click.echo(shown)


@trigger.command()
@click.argument("name")
@data_option
def disable(name: str, data: Path | None) -> None:
    """Switch the trigger NAME off, also over a restart, until it is enabled again. What it has in hand is finished
    first; what comes meanwhile waits in its source, if that keeps it."""
    _switch(name, data, enabled=False)


@trigger.command()
@click.argument("name")
@data_option
def enable(name: str, data: Path | None) -> None:
    """Switch the trigger NAME on, also over a restart."""
    _switch(name, data, enabled=True)


def _switch(name: str, data: Path | None, *, enabled: bool) -> None:
    client = Client(data_folder(data))
    status = msgspec.json.decode(client.call("GET", "/status"), type=Status)
    client.call("PUT", "/triggers", {"source": _whole(name, status), "enabled": enabled})
    click.echo(f"{name} is {'enabled' if enabled else 'disabled'}")


def _whole(name: str, status: Status) -> str:
    """The trigger whose name begins so, if it is the only one: "hello/kafka" is enough where there is no second."""
    triggers: list[SourceStatus] = [each for function in status.functions for each in function.triggers]
    fitting = [each.source for each in triggers if each.source == name or each.source.startswith(f"{name}/")]
    return fitting[0] if len(fitting) == 1 else name
