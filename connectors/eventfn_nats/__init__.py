"""NATS JetStream as a source and as a destination: `type = "nats"` and "nats:SUBJECT".

Belongs here: pulling from a durable consumer, its acknowledgements, publishing, and the shape of a message. Does not:
core NATS without JetStream, which keeps nothing for whoever was not there, and making streams, which is the operator's.
"""

from eventfn_nats.destination import NatsDestination
from eventfn_nats.trigger import NatsTrigger

__all__ = ["NatsDestination", "NatsTrigger"]
