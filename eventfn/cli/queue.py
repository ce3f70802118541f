from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec

from eventfn.cli.client import Client
from eventfn.cli.failing import CannotRun
from eventfn.cli.group import Group
from eventfn.cli.options import data_folder, data_option, duration, json_option
from eventfn.cli.safe import safe
from eventfn.cli.tables import Table, depth_cells
from eventfn.cli.words import age, local_time, plural
from eventfn.observe.status import QueueStatus
from eventfn.units import Duration


@click.group(cls=Group)
def queue() -> None:
    """Look into queues and dead letters of the running node; send, send back, empty."""


@queue.command("list")
@data_option
@json_option
def list_queues(data: Path | None, as_json: bool) -> None:
    """List the queues with what they hold."""
    answer = Client(data_folder(data)).call("GET", "/queues")
    if as_json:
        click.echo(answer)
        return
    queues = msgspec.json.decode(answer, type=list[QueueStatus])
    if not queues:
        click.echo("no queues: declare one as [queues.NAME], or name one as 'queue:NAME' in a function")
        return
    shown = Table("queue", ">visible", ">in flight", ">delayed", ">oldest", "holds what failed of")
    now_ms = time.time_ns() // 1_000_000
    for each in queues:
        name = f"{each.name} (FIFO)" if each.fifo else each.name
        shown.add(safe(name), *depth_cells(each.depth, now_ms), safe(", ".join(each.dead_letter_for)))
    click.echo(shown)


@queue.command()
@click.argument("name")
@click.option("-n", "--limit", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many at most.")
@click.option("--after", type=click.IntRange(0), default=0, metavar="SEQUENCE", help="Go on behind this message.")
@data_option
@json_option
def peek(name: str, limit: int, after: int, data: Path | None, as_json: bool) -> None:
    """Show the messages of the queue NAME, oldest first. Takes nothing: no receive is counted."""
    answer = Client(data_folder(data)).call("GET", f"{_path(name)}/messages?limit={limit}&after={after}")
    if as_json:
        click.echo(answer)
        return
    messages = msgspec.json.decode(answer, type=list[dict[str, Any]])
    for message in messages:
        _show(message)
    if not messages:
        click.echo("no messages")
    elif len(messages) == limit:
        click.echo(f"perhaps there are more: --after {messages[-1]['sequence']}", err=True)


def _show(message: dict[str, Any]) -> None:
    now_ms = time.time_ns() // 1_000_000
    facts = [f"#{message['sequence']}", message["id"], f"sent {local_time(message['sent_ms'])}"]
    facts.append(f"received {plural(message['receives'], 'time')}")
    if message["group"] is not None:
        facts.append(f"group {message['group']}")
    if message["visible_ms"] > now_ms:
        facts.append(f"visible in {age(message['visible_ms'] - now_ms)}")
    click.secho(safe("  ".join(facts)), bold=True)
    for key, value in sorted(message["attributes"].items()):
        click.echo(f"  {safe(key)}: {safe(value)}")
    if message["error"] is not None and message["error"] not in message["attributes"].values():
        click.secho(f"  error: {safe(message['error'])}", fg="red")
    click.echo(f"  {safe(message['body'])}\n")


@queue.command(short_help="Send messages back to where they came from.")
@click.argument("name")
@click.option("-n", "--limit", type=click.IntRange(1), help="How many at most; without it all.")
@data_option
@json_option
def redrive(name: str, limit: int | None, data: Path | None, as_json: bool) -> int:
    """Send the messages of the queue NAME back to the function or queue that they came from.

    Exit code 1 when some had to stay.
    """
    answer = Client(data_folder(data)).call("POST", f"{_path(name)}/redrive", {"limit": limit})
    told = msgspec.json.decode(answer, type=dict[str, Any])
    if as_json:
        click.echo(answer)
    else:
        click.echo(f"sent back {plural(told['moved'], 'message')}")
        for message, reason in told["kept"].items():
            click.echo(f"kept {safe(message)}: {safe(reason)}", err=True)
    return int(bool(told["kept"]))


@queue.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
@json_option
def purge(name: str, yes: bool, data: Path | None, as_json: bool) -> None:
    """Drop every message of the queue NAME, those in flight too. It asks first: they are gone for good."""
    client = Client(data_folder(data))
    if not yes:
        if not sys.stdin.isatty():
            raise CannotRun("this drops every message for good, and nobody can be asked: say so with --yes")
        click.confirm(f"Drop every message of '{name}' for good?", abort=True, err=True)
    answer = client.call("DELETE", f"{_path(name)}/messages")
    if as_json:
        click.echo(answer)
    else:
        click.echo(f"dropped {plural(msgspec.json.decode(answer, type=dict[str, int])['purged'], 'message')}")


@queue.command(short_help="Send a message, or the lines of a file.")
@click.argument("name")
@click.argument("file", required=False, type=click.Path(path_type=Path, allow_dash=True))
@click.option("-m", "--message", help="The message itself, in place of FILE.")
@click.option("--lines", is_flag=True, help="Each line of FILE is a message of its own; empty lines are not sent.")
@click.option("--group", help="FIFO queues: messages of a group are handled in order.")
@click.option("--dedupe-key", help="A message with a key seen within the queue's window is not added.")
@click.option("--delay", callback=duration, metavar="10s", help="Not visible before; without it the queue's own delay.")
@data_option
@json_option
def send(
    name: str,
    file: Path | None,
    message: str | None,
    lines: bool,
    group: str | None,
    dedupe_key: str | None,
    delay: Duration | None,
    data: Path | None,
    as_json: bool,
) -> None:
    """Send a message to the queue NAME: the text of -m, of FILE, or of standard input (FILE is -)."""
    if (file is None) == (message is None):
        raise click.UsageError("give either -m TEXT or a FILE (- for standard input)", click.get_current_context())
    text = message if message is not None else _text(file)
    seconds = None if delay is None else float(delay)
    client = Client(data_folder(data))
    sent: list[str] = []
    for body in [line for line in text.splitlines() if line.strip()] if lines else [text]:
        asked = {"body": body, "group": group, "dedupe_key": dedupe_key, "delay": seconds}
        answer = client.call("POST", f"{_path(name)}/messages", asked)
        sent.append(msgspec.json.decode(answer, type=dict[str, str])["id"])
    if as_json:
        click.echo(msgspec.json.encode([{"id": message_id} for message_id in sent] if lines else {"id": sent[0]}))
    else:
        click.echo(f"sent: {sent[0]}" if len(sent) == 1 else f"sent {plural(len(sent), 'message')}")


def _text(file: Path | None) -> str:
    assert file is not None
    try:
        raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except FileNotFoundError:
        raise CannotRun(f"{file}: no such file; a message that is no file is given with -m") from None
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise CannotRun(f"{file} is not UTF-8 text: {error}") from None


def _path(queue: str) -> str:
    return f"/queues/{quote(queue, safe='')}"
