"""Which names in a Host header are right.

A web page that has its own name resolved to 127.0.0.1 must not get to read from here (DNS rebinding). On any other
address the operator has opened it on purpose, under names that only he knows.
"""

from __future__ import annotations

import functools

from eventfn.api.errors import access_denied
from eventfn.api.listener import is_loopback


def require_loopback(host: str) -> None:
    """Raises ApiError."""
    if not _is_loopback(host):
        raise access_denied("the Host header must name a loopback address")


@functools.lru_cache(maxsize=64)
def _is_loopback(host: str) -> bool:
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    return is_loopback(name.strip("[]").lower())
