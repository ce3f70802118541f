"""What the library does between two reads, made to fit: this is the one place that reaches into its fetcher.

What belongs here: how long a fetch waits at a broker, and what is made of each record that came. A library that looks
different inside goes without.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

_SOON = 50  # milliseconds
_LONG = 1000


def tune(consumer: Any) -> None:
    """For a consumer that was just started."""
    fetcher: Any = consumer._fetcher
    kind: Any = fetcher.__class__
    fetcher.__class__ = type("Fetcher", (kind,), {"_fetch_max_wait_ms": property(_wait, _stays)})
    fetcher._records = _Arrived()


def _wait(fetcher: Any) -> int:
    """The library has one fetch under way per broker, and leaves out partitions of which something is still unread.
    While such a fetch waits for the others, a partition whose records were used up meanwhile gets nothing: a quiet
    partition would hold up a busy one. So a fetch comes back soon while it leaves something out, and waits long, as
    that of an idle source should, when it asks for everything."""
    return _SOON if fetcher._records else _LONG


def _stays(fetcher: Any, value: int) -> None: ...


class _Arrived(OrderedDict[Any, Any]):
    """What was fetched and not read. Each record is handed over as it was unpacked: a copy of it, of eleven fields,
    would take a quarter of the time that all of reading takes."""

    def __setitem__(self, partition: Any, result: Any) -> None:
        if (records := getattr(result, "_partition_records", None)) is not None:
            records._consumer_record = _as_it_is
        super().__setitem__(partition, result)


def _as_it_is(partition: Any, record: Any) -> Any:
    return record
