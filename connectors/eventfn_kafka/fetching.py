"""How long a fetch waits at a broker for something new.

The library has one fetch under way per broker, and leaves out partitions of which something is still unread. While
such a fetch waits for the others, a partition whose records were used up meanwhile gets nothing: a quiet partition
would hold up a busy one. So a fetch comes back soon while it leaves something out, and waits long, as that of an idle
source should, when it asks for everything.
"""

from __future__ import annotations

from typing import Any

_SOON = 50  # milliseconds
_LONG = 500


def come_back_soon(consumer: Any) -> None:
    """For a consumer that was started: its fetcher asks for this number whenever it makes a request."""

    def wait(fetcher: Any) -> int:
        return _SOON if fetcher._records else _LONG

    def stays(fetcher: Any, value: int) -> None: ...

    fetcher: object = consumer._fetcher
    made = type(fetcher)
    fetcher.__class__ = type(made.__name__, (made,), {"_fetch_max_wait_ms": property(wait, stays)})
