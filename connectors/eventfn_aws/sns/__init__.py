"""SNS as a source and as a destination: `type = "sns"` (an HTTP or HTTPS subscription) and "sns:TOPIC".

Belongs here: what SNS sends (`messages.py`) and how a topic is named (`topics.py`), both PURE; the endpoint that SNS
posts to, the check of its signatures, subscribing, publishing. Does not: a topic that is read through an SQS queue,
which is a matter of the queue's trigger.
"""

from eventfn_aws.sns.destination import SnsDestination
from eventfn_aws.sns.trigger import SnsTrigger

__all__ = ["SnsDestination", "SnsTrigger"]
