from __future__ import annotations

from pathlib import Path

import click
import msgspec

from eventfn.cli.client import Client
from eventfn.cli.options import data_folder, data_option, json_option
from eventfn.cli.safe import safe
from eventfn.cli.tables import Table, depth_cells
from eventfn.cli.words import age, plural
from eventfn.observe.status import FunctionStatus, Status

_MOST_NAMES = 5


@click.command()
@data_option
@json_option
def status(data: Path | None, as_json: bool) -> None:
    """Show how the running node is: what is enforced, functions and their triggers, queues, waiting records."""
    document = Client(data_folder(data)).call("GET", "/status")
    if as_json:
        click.echo(document)
        return
    click.echo(page(msgspec.json.decode(document, type=Status)))


def page(status: Status) -> str:
    """The whole document for people."""
    parts = [_head(status), _enforcement(status), _functions(status), _triggers(status)]
    if troubles := [line for function in status.functions for line in _troubles(function)]:
        parts[-1] += "".join(f"\n  {click.style(line, fg='red')}" for line in troubles)
    if status.queues:
        queues = Table("queue", ">visible", ">in flight", ">delayed", ">oldest", "holds what failed of")
        for queue in status.queues:
            cells = [*depth_cells(queue.depth, status.now_ms), safe(_first(queue.dead_letter_for))]
            queues.add(safe(queue.name), *cells, colour="red" if queue.dead_letter_for and queue.depth.total else None)
        parts.append(str(queues))
    if status.outbox:
        outbox = Table("destination", ">visible", ">in flight", ">delayed", ">oldest", "last error")
        for box in status.outbox:
            outbox.add(safe(box.destination), *depth_cells(box.depth, status.now_ms), safe(box.last_error or ""))
        parts.append(str(outbox))
    return "\n\n".join(parts)


def _first(names: list[str]) -> str:
    """A node may have a thousand functions."""
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES} more"


def _head(status: Status) -> str:
    state = "stopping" if status.draining else "up"
    lines = [
        f"eventfn {status.version}, Python {status.python}, pid {status.pid}, {state} for "
        f"{age(status.now_ms - status.started_ms)}",
        f"project {status.folder}",
        f"data    {status.data}",
        *(f"{address.name:7} {address.address}" for address in status.addresses),
    ]
    return "\n".join(map(safe, lines))


def _enforcement(status: Status) -> str:
    shown = Table("", "isolation", "")
    for wall in status.enforcement:
        mark = ("enforced", "green") if wall.enforced else ("NOT ENFORCED", "yellow")
        shown.add(click.style(mark[0], fg=mark[1], bold=not wall.enforced), wall.wall, wall.meaning)
    return str(shown)


def _functions(status: Status) -> str:
    shown = Table("function", "from", ">invoked", ">errors", ">throttled", ">running", ">warm", ">events", ">oldest")
    for function in status.functions:
        counts, here = function.counts, function.environments
        shown.add(
            safe(function.name if function.state == "Active" else f"{function.name} ({function.state})"),
            safe(Path(function.origin).name),
            f"{counts.invocations:,}",
            f"{counts.errors + counts.system_errors:,}",
            f"{counts.throttles:,}",
            f"{here.in_flight:,}",
            f"{here.idle:,}",
            f"{function.events.total:,}",
            "" if function.events.oldest_ms is None else age(status.now_ms - function.events.oldest_ms),
        )
    return str(shown)


def _triggers(status: Status) -> str:
    shown = Table("trigger", "of", "from", "state", ">waiting", ">oldest")
    for function in status.functions:
        for source in function.triggers:
            state = f"{source.state}: {source.reason}" if source.reason else source.state
            shown.add(
                safe(f"{source.type} {source.settings}"),
                safe(function.name),
                safe(Path(source.where).name),
                safe(state),
                "" if source.lag is None else f"{source.lag:,}",
                age(source.iterator_age_ms) if source.iterator_age_ms else "",
                colour="red" if source.state == "down" else None,
            )
    return str(shown)


def _troubles(function: FunctionStatus) -> list[str]:
    """What somebody should look at."""
    found: list[str] = []
    if (error := function.last_error) is not None:
        found.append(f"last error {error.error_type}: {error.message} (request {error.request_id})")
    if function.log_lines_dropped:
        found.append(f"{plural(function.log_lines_dropped, 'log line')} dropped")
    for source in function.triggers:
        for held_up in source.held_up:
            why = f": {held_up.reason}" if held_up.reason else ""
            found.append(
                f"{held_up.shard} of {source.type} waits until {held_up.destination} has taken "
                f"{plural(held_up.records, 'record')} that {'was' if held_up.records == 1 else 'were'} given up{why}"
            )
    return [safe(f"{function.name}: {' '.join(line.splitlines())}") for line in found]
