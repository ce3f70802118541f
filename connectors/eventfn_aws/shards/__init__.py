"""What Kinesis and DynamoDB Streams have in common: shards with parents, iterators that expire, limits on reads.

Belongs here: reading one shard (`reader.py`), the tree of shards (`tree.py`, PURE), what is said of a batch that was
given up (`batch_info.py`, PURE). Does not: what is asked of one of the two services, and the shapes of its records.
"""
