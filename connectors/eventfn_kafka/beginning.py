"""Where a partition is read from: at what its group has committed, and without that at the starting position.

A group remembers, beside each offset, how many partitions its topic had when it began. So LATEST skips what was there
at that time, and nothing of a partition that was added since, however late somebody notices it.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from eventfn.trigger import Start
from eventfn_kafka.library import Partition

_BEGAN_WITH = re.compile(r"began with (\d+) partitions")


class Beginning(NamedTuple):
    offset: int
    note: str  # goes with every commit of this partition
    committed: bool  # the brokers know the offset, or would give the same after a restart


async def beginning(consumer: Any, partition: Any, start: Start | None) -> Beginning:
    """Without a start only the note is of use, where nothing is committed. Raises KafkaError."""
    numbers: set[int] = consumer.partitions_for_topic(partition.topic) or set()
    all_of_it = [Partition(partition.topic, number) for number in sorted(numbers | {partition.partition})]
    # Not consumer.committed(), which leaves out the note and is one request for each.
    kept: dict[Any, Any] = await consumer._coordinator.fetch_committed_offsets(all_of_it)
    notes = [found for each in kept.values() if (found := _BEGAN_WITH.search(each.metadata or ""))]
    began_with = min((int(found[1]) for found in notes), default=len(all_of_it))
    note = f"began with {began_with} partitions"
    if partition in kept:
        return Beginning(kept[partition].offset, note, True)
    if start is None or start.position == "TRIM_HORIZON" or partition.partition >= began_with:
        return Beginning(await earliest(consumer, partition), note, True)
    if start.position == "AT_TIMESTAMP":
        found = (await consumer.offsets_for_times({partition: start.timestamp_ms}))[partition]
        if found is not None:
            return Beginning(found.offset, note, False)
    # LATEST, or nothing is as young as that.
    ends: dict[Any, int] = await consumer.end_offsets([partition])
    return Beginning(ends[partition], note, False)


async def earliest(consumer: Any, partition: Any) -> int:
    found: dict[Any, int] = await consumer.beginning_offsets([partition])
    return found[partition]
