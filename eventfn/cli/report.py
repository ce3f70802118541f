"""The two Reporters of `eventfn run`: for people, for programs (a JSON object per line)."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import msgspec

from eventfn.cli.safe import safe
from eventfn.cli.tables import Table
from eventfn.cli.words import plural, print_problems
from eventfn.errors import Problem
from eventfn.observe.report import Loaded, Reporter
from eventfn.observe.status import Wall


class TextReporter:
    def preparing(self, function: str, text: str) -> None:
        self._line(f"{function}: {text}")

    def loaded(self, folder: str, data: str, functions: Sequence[Loaded]) -> None:
        self._line(f"eventfn {metadata.version('eventfn')}  {folder}", bold=True)
        shown = Table("function", "handler", "runtime", "triggers")
        for function in functions:
            first, *others = [safe(" ".join(trigger)) for trigger in function.triggers] or [""]
            shown.add(*map(safe, (function.name, function.handler, function.runtime)), first)
            for trigger in others:
                shown.add("", "", "", trigger)
        click.echo(shown)
        if Path(folder) != Path.cwd():
            self._line(f"other commands find this node with --data {data}")

    def enforcement(self, walls: Sequence[Wall]) -> None:
        enforced = [wall.wall for wall in walls if wall.enforced]
        if enforced:
            self._line(f"enforced: {', '.join(enforced)}", "green")
        for wall in walls:
            if not wall.enforced:
                self._line(f"NOT ENFORCED: {wall.wall}: {wall.meaning}", "yellow")

    def listening(self, name: str, address: str) -> None:
        shown = f"http://{address}" if name in ("http", "admin") and "://" not in address else address
        self._line(f"{name:8} {shown}", "cyan")

    def ready(self, milliseconds: float) -> None:
        self._line(f"ready in {milliseconds:.0f} ms. Ctrl-C stops when what runs is finished, a second one at once.")

    def reloaded(self, added: Sequence[str], changed: Sequence[str], removed: Sequence[str]) -> None:
        parts = [("added", added), ("changed", changed), ("removed", removed)]
        told = "; ".join(f"{word} {', '.join(names)}" for word, names in parts if names)
        self._line(f"{time.strftime('%H:%M:%S')} reloaded: {told or 'nothing is different'}", "green")

    def problems(self, problems: Sequence[Problem]) -> None:
        print_problems(problems)

    def draining(self, in_flight: int) -> None:
        doing = f"finishing {plural(in_flight, 'invocation')}" if in_flight else "nothing is running"
        self._line(f"stopping: {doing}. Ctrl-C again stops at once.")

    def drained(self, handed_back: int) -> None:
        if handed_back:
            self._line(f"{plural(handed_back, 'invocation')} not finished in time; their events come again", "yellow")
        self._line("stopped")

    def _line(self, text: str, colour: str | None = None, *, bold: bool | None = None) -> None:
        click.secho(safe(text), fg=colour, bold=bold)


class JsonReporter:
    """{"event": "listening", "name": "http", "address": "127.0.0.1:8080"}, one line each, written at once."""

    def preparing(self, function: str, text: str) -> None:
        self._write("preparing", function=function, text=text)

    def loaded(self, folder: str, data: str, functions: Sequence[Loaded]) -> None:
        self._write("loaded", folder=folder, data=data, functions=msgspec.to_builtins(functions))

    def enforcement(self, walls: Sequence[Wall]) -> None:
        self._write("enforcement", walls=msgspec.to_builtins(walls))

    def listening(self, name: str, address: str) -> None:
        self._write("listening", name=name, address=address)

    def ready(self, milliseconds: float) -> None:
        self._write("ready", milliseconds=round(milliseconds, 1))

    def reloaded(self, added: Sequence[str], changed: Sequence[str], removed: Sequence[str]) -> None:
        self._write("reloaded", added=list(added), changed=list(changed), removed=list(removed))

    def problems(self, problems: Sequence[Problem]) -> None:
        self._write("problems", problems=msgspec.to_builtins(list(problems)))

    def draining(self, in_flight: int) -> None:
        self._write("draining", in_flight=in_flight)

    def drained(self, handed_back: int) -> None:
        self._write("drained", handed_back=handed_back)

    def _write(self, event: str, **facts: Any) -> None:
        click.echo(json.dumps({"event": event, **facts}))


def reporter(*, as_json: bool) -> Reporter:
    return JsonReporter() if as_json else TextReporter()


class LogHandler(logging.Handler):
    """eventfn's own log, on standard error in the form that was asked for."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter("%(message)s"))  # or basicConfig gives it one with level and name again
        self._as_json = as_json

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            if self._as_json:
                facts = {"event": "log", "level": record.levelname.lower(), "logger": record.name, "message": text}
                click.echo(json.dumps(facts), err=True)
            else:
                click.echo(f"{record.levelname.lower()}: {record.name}: {safe(text)}", err=True)
        except Exception:
            self.handleError(record)
