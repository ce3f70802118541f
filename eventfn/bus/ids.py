"""Ids of requests, events and messages."""

from __future__ import annotations

import os


def new_id() -> str:
    """A version 4 UUID, at a third of the price of uuid4(): everything that moves has one."""
    chance = os.urandom(16).hex()
    return (
        f"{chance[:8]}-{chance[8:12]}-4{chance[13:16]}-{'89ab'[int(chance[16], 16) & 3]}{chance[17:20]}-{chance[20:]}"
    )
