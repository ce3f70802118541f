from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import click

from eventfn.cli import modules
from eventfn.cli.options import json_option
from eventfn.cli.report import LogHandler, reporter
from eventfn.sandbox.probe import Probe


@click.command()
@click.argument("target", default=".", type=click.Path(path_type=Path))
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Data folder; wins over the file."
)
@click.option("--http", metavar="ADDR", help="Where the functions' HTTP listens, host:port; port 0 is any free one.")
@click.option("--admin", metavar="ADDR", help="Where API, metrics and commands listen, host:port.")
@click.option("--watch", is_flag=True, help="Load what changes, without losing a request.")
@json_option
def run(target: Path, data: Path | None, http: str | None, admin: str | None, watch: bool, as_json: bool) -> int:
    """Run the functions of a project until Ctrl-C.

    TARGET is a folder, an eventfn.toml or a Python file; without it the current folder. The first Ctrl-C (or SIGTERM)
    takes nothing new and finishes what runs; the second one stops at once, and what was accepted comes again at the
    next start. With --json each step is an object on a line of its own.
    """
    logging.basicConfig(level=logging.WARNING, handlers=[LogHandler(as_json=as_json)])
    # First: it wants to be before any child, and its trial runs beside the imports, which are most of a start.
    with contextlib.closing(Probe()) as probing:
        with modules.uncollected():
            import uvloop

            from eventfn.supervisor import serve
        said = reporter(as_json=as_json)
        return uvloop.run(serve(target, probing, data=data, http=http, admin=admin, watch=watch, reporter=said))
