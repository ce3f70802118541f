"""DynamoDB Streams as a source: `type = "dynamodb"`.

Belongs here: what is asked of the service (`trigger.py`, `reading.py`), and, PURE, a change's shape (`shape.py`) and
how tables and streams are named (`tables.py`). Does not: positions, leases and the order of shards, which are the
host's; how a shard is read on and on (eventfn_aws.shards).
"""

from eventfn_aws.dynamodb.trigger import DynamodbTrigger

__all__ = ["DynamodbTrigger"]
