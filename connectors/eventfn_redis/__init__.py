"""Redis streams as a source and as a destination: `type = "redis"` and "redis:STREAM".

Belongs here: a consumer group's reads, claims and acknowledgements, and the shape of an entry. Does not: other data
types of Redis (lists, pub/sub lose what nobody has taken), and Redis Cluster.
"""

from eventfn_redis.destination import RedisDestination
from eventfn_redis.trigger import RedisTrigger

__all__ = ["RedisDestination", "RedisTrigger"]
