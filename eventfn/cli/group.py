from __future__ import annotations

import click


class Group(click.Group):
    """Commands under one name. The name alone is answered with its help, and exit code 2: nothing was asked for."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:
            click.echo(ctx.get_help(), err=True)
            ctx.exit(2)
        return super().parse_args(ctx, args)
