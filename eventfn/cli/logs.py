from __future__ import annotations

import difflib
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import click

from eventfn.cli.failing import Failed
from eventfn.cli.options import data_folder, data_option, duration, json_option
from eventfn.cli.safe import safe
from eventfn.cli.words import local_time
from eventfn.observe.logs import Follower, Line, functions, read
from eventfn.units import Duration

POLL_SECONDS = 0.1
FOLLOW_FROM = Duration(600)  # how far back -f starts when nothing else is said


@click.command()
@click.argument("name", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with what is logged from now on, until Ctrl-C.")
@click.option(
    "--since",
    callback=duration,
    metavar="10m",
    help="Only what is not older. With -f the last 10 minutes, otherwise all.",
)
@data_option
@json_option
def logs(name: str | None, follow: bool, since: Duration | None, data: Path | None, as_json: bool) -> None:
    """Print what the function NAME has logged; without NAME what all have.

    The logs are files in the data folder: no node has to be running. With --json a line is an object: timestamp
    (milliseconds since the epoch), stream, message, function.
    """
    folder = data_folder(data) / "logs"
    if since is None and follow:
        since = FOLLOW_FROM
    since_ms = 0 if since is None else round((time.time() - since) * 1000)
    show = _Printer(as_json, with_function=name is None)
    if not follow:
        if name is not None and name not in functions(folder):
            raise Failed(_no_log(folder, name))
        show(read(folder, name, since_ms))
        return
    if name is not None and name not in functions(folder):
        click.echo(f"{_no_log(folder, name)}; waiting for its first line", err=True)
    follower = Follower(folder, name, since_ms)
    while True:
        show(follower.poll())
        time.sleep(POLL_SECONDS)


def _no_log(folder: Path, name: str) -> str:
    close = difflib.get_close_matches(name, functions(folder), 1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    return f"no log of '{name}' in {folder}{hint}"


class _Printer:
    def __init__(self, as_json: bool, *, with_function: bool) -> None:
        self._as_json = as_json
        self._with_function = with_function
        self._colour = sys.stdout.isatty()

    def __call__(self, lines: Iterable[Line]) -> None:
        for line in lines:
            sys.stdout.write(self._json(line) if self._as_json else self._text(line))
        sys.stdout.flush()

    def _json(self, line: Line) -> str:
        fields = {"timestamp": line.timestamp, "stream": line.stream, "message": line.message}
        return json.dumps({**fields, "function": line.function}) + "\n"

    def _text(self, line: Line) -> str:
        head = local_time(line.timestamp) + (f" {line.function}" if self._with_function else "")
        head = click.style(head, fg="bright_black") if self._colour else head
        return f"{head} {safe(line.message)}\n"
