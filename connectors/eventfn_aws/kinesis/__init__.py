"""Kinesis Data Streams as a source and as a destination: `type = "kinesis"` and "kinesis:STREAM".

Belongs here: what is asked of Kinesis (`trigger.py`, `reading.py`, `destination.py`), and, PURE, a record's shape
(`shape.py`), records packed by the KPL (`kpl.py`), how a stream is named (`stream.py`). Does not: positions, leases and
the order of shards, which are the host's; how a shard is read on and on (eventfn_aws.shards).
"""

from eventfn_aws.kinesis.destination import KinesisDestination
from eventfn_aws.kinesis.trigger import KinesisTrigger

__all__ = ["KinesisDestination", "KinesisTrigger"]
