"""S3 as a source and as a destination: `type = "s3"` and "s3://BUCKET/PREFIX".

Belongs here: which objects and events are meant (`wanted.py`), what was announced of a bucket that is listed
(`ledger.py`), the shape of an event (`shape.py`), where a record goes (`keys.py`), all PURE; and the three ways to hear
of objects: listing, a queue that S3 tells, a store that posts. Does not: what becomes of an event once it is on disk.
"""

from eventfn_aws.s3.destination import S3Destination
from eventfn_aws.s3.trigger import S3Trigger

__all__ = ["S3Destination", "S3Trigger"]
