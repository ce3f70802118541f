"""RabbitMQ: `type = "amqp"` hands a queue's messages to a function, "amqp:QUEUE" takes what functions leave behind.

Belongs here: AMQP 0-9-1 through aiormq, Lambda's shape of a RabbitMQ message, and who is told what about a delivery.
Does not: reconnecting, batching, filtering - that is the host's.
"""

import importlib.util

if importlib.util.find_spec("aiormq") is None:
    raise ImportError("aiormq is not installed: pip install 'eventfn[amqp]'")

from eventfn_amqp.destination import AmqpDestination
from eventfn_amqp.trigger import AmqpTrigger

__all__ = ["AmqpDestination", "AmqpTrigger"]
