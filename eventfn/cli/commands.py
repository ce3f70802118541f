"""The command `eventfn`: which commands there are, and how every one of them ends.

A command's module is imported when the command is used, so `eventfn --help` is as fast as Python itself.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any, NoReturn

import click

from eventfn.cli import modules
from eventfn.cli.failing import CannotRun, Failed, in_one_line
from eventfn.cli.group import Group

# name -> (module, line in the list of commands); the command is the attribute of that module with the same name
COMMANDS = {
    "run": ("eventfn.cli.run", "Run the functions of a project until Ctrl-C."),
    "check": ("eventfn.cli.check", "Say everything that is wrong with a project, and start nothing."),
    "invoke": ("eventfn.cli.invoke", "Call a function of the running node and print its answer."),
    "logs": ("eventfn.cli.logs", "Print what functions have logged, and follow it."),
    "status": ("eventfn.cli.status", "Show how the running node is."),
    "queue": ("eventfn.cli.queue", "Look into queues and dead letters; send, send back, empty."),
    "trigger": ("eventfn.cli.trigger", "List the triggers of the running node; switch them off and on."),
    "new": ("eventfn.cli.new", "Start a function or a connector."),
}


class Commands(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        with modules.uncollected():
            command = getattr(import_module(COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """Ends every command: its exit code, errors on one line, no traceback for what the user can mend."""
        options.update(prog_name="eventfn", standalone_mode=False)
        if os.environ.get("NO_COLOR"):  # https://no-color.org
            options["color"] = False
        try:
            result = super().main(*args, **options)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read our output has seen enough ("| head"): not a word, also not when the interpreter flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except (KeyboardInterrupt, click.Abort):
            _say("stopped")
            sys.exit(130)  # as shells report SIGINT
        except Exception as error:
            known = in_one_line(error)
            if known is None:
                raise
            _say(f"error: {known}")
            sys.exit(CannotRun.exit_code if isinstance(error, (click.UsageError, CannotRun)) else Failed.exit_code)
        sys.exit(result if isinstance(result, int) else 0)


def _say(line: str) -> None:
    click.echo(line, err=True)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="eventfn", message="eventfn %(version)s")
def eventfn() -> None:
    """A Lambda that you run yourself: functions, what triggers them, and what becomes of their answers.

    \b
    eventfn new function hello     start one
    eventfn run                    run what the folder declares
    eventfn invoke hello           call it

    Exit codes: 0 done; 1 it failed (the function, the check, the request); 2 it could not be tried (wrong usage, no
    node running).
    """
