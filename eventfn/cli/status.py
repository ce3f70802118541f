from __future__ import annotations

from pathlib import Path

import click
import msgspec
from rich.console import Console, Group, RenderableType
from rich.text import Text

from eventfn.cli.client import Client
from eventfn.cli.options import data_folder, data_option, json_option
from eventfn.cli.safe import safe
from eventfn.cli.tables import depth_cells, table
from eventfn.cli.words import age, plural
from eventfn.observe.status import FunctionStatus, Status


@click.command()
@data_option
@json_option
def status(data: Path | None, as_json: bool) -> None:
    """Show how the running node is: what is enforced, functions and their triggers, queues, waiting records."""
    document = Client(data_folder(data)).call("GET", "/status")
    if as_json:
        click.echo(document)
        return
    Console(highlight=False).print(page(msgspec.json.decode(document, type=Status)))


def page(status: Status) -> RenderableType:
    """The whole document for people."""
    parts: list[RenderableType] = [
        _head(status),
        "",
        _enforcement(status),
        "",
        _functions(status),
        "",
        _triggers(status),
    ]
    parts += [Text(f"  {line}", "red") for function in status.functions for line in _troubles(function)]
    if status.queues:
        queues = table("queue", ">visible", ">in flight", ">delayed", ">oldest", "holds what failed of")
        for queue in status.queues:
            colour = "red" if queue.dead_letter_for and queue.depth.total else ""
            cells = [*depth_cells(queue.depth, status.now_ms), ", ".join(queue.dead_letter_for)]
            queues.add_row(safe(queue.name), *cells, style=colour)
        parts += ["", queues]
    if status.outbox:
        outbox = table("destination", ">visible", ">in flight", ">delayed", ">oldest", "last error")
        for box in status.outbox:
            cells = [*depth_cells(box.depth, status.now_ms), safe(box.last_error or "")]
            outbox.add_row(safe(box.destination), *cells)
        parts += ["", outbox]
    return Group(*parts)


def _head(status: Status) -> Text:
    state = "stopping" if status.draining else "up"
    lines = [
        f"eventfn {status.version}, Python {status.python}, pid {status.pid}, {state} for "
        f"{age(status.now_ms - status.started_ms)}",
        f"project {status.folder}",
        f"data    {status.data}",
        *(f"{address.name:7} {address.address}" for address in status.addresses),
    ]
    return Text("\n".join(map(safe, lines)))


def _enforcement(status: Status) -> RenderableType:
    shown = table("", "isolation", "")
    for wall in status.enforcement:
        mark = Text("enforced", "green") if wall.enforced else Text("NOT ENFORCED", "bold yellow")
        shown.add_row(mark, wall.wall, wall.meaning)
    return shown


def _functions(status: Status) -> RenderableType:
    shown = table("function", ">invoked", ">errors", ">throttled", ">running", ">warm", ">events", ">oldest")
    for function in status.functions:
        counts, here = function.counts, function.environments
        shown.add_row(
            safe(function.name),
            f"{counts.invocations:,}",
            f"{counts.errors + counts.system_errors:,}",
            f"{counts.throttles:,}",
            f"{here.in_flight:,}",
            f"{here.idle:,}",
            f"{function.events.total:,}",
            "" if function.events.oldest_ms is None else age(status.now_ms - function.events.oldest_ms),
        )
    return shown


def _triggers(status: Status) -> RenderableType:
    shown = table("trigger", "of", "state", ">waiting")
    for function in status.functions:
        for source in function.triggers:
            state = f"{source.state}: {source.reason}" if source.reason else source.state
            shown.add_row(
                safe(f"{source.type} {source.settings}"),
                safe(function.name),
                safe(" ".join(state.splitlines())),
                "" if source.lag is None else f"{source.lag:,}",
                style="red" if source.state == "down" else "",
            )
    return shown


def _troubles(function: FunctionStatus) -> list[str]:
    """What somebody should look at."""
    found: list[str] = []
    if (error := function.last_error) is not None:
        found.append(f"last error {error.error_type}: {error.message} (request {error.request_id})")
    if function.log_lines_dropped:
        found.append(f"{plural(function.log_lines_dropped, 'log line')} dropped")
    return [safe(f"{function.name}: {' '.join(line.splitlines())}") for line in found]
