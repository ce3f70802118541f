"""Named queues of eventfn itself as a source and as a destination: `type = "queue"` and "queue:NAME".

Belongs here: SQS's shape of a message, and reading, settling and sending. Does not: how a queue keeps its messages;
the host hands that over as `context.queues`.
"""

from eventfn_queue.destination import QueueDestination
from eventfn_queue.trigger import QueueTrigger

__all__ = ["QueueDestination", "QueueTrigger"]
