"""SQS as a source and as a destination: `type = "sqs"` and "sqs:QUEUE".

Belongs here: the names of queues (`names.py`) and the shape of messages (`shape.py`), both PURE; receiving
(`receiving.py`), settling (`telling.py`), sending. Does not: how long a batch is gathered, and what is retried when;
that is the host's.
"""

from eventfn_aws.sqs.destination import SqsDestination
from eventfn_aws.sqs.trigger import SqsTrigger

__all__ = ["SqsDestination", "SqsTrigger"]
