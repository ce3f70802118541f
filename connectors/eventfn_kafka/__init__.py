"""Apache Kafka as a source and as a destination: `type = "kafka"` and "kafka:TOPIC".

Belongs here: consumer groups, the shapes of a record, offsets that are committed when the host says so, and sending.
Does not: which records are handed to a function when, and how far a partition is done; the host decides that.
"""

from eventfn_kafka.destination import KafkaDestination
from eventfn_kafka.trigger import KafkaTrigger

__all__ = ["KafkaDestination", "KafkaTrigger"]
