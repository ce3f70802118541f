"""Who asks: the principals of the API."""

from __future__ import annotations

import msgspec


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """An identity of an account, as a signature or the node's own token has proven it."""

    arn: str  # "arn:aws:iam::000000000000:root"
    account: str


def root(account: str) -> Principal:
    """Who may everything in `account`."""
    return Principal(arn=f"arn:aws:iam::{account}:root", account=account)
