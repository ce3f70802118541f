"""AWS, or a server that speaks its protocols, as a source and as a destination: sqs, sns, kinesis, dynamodb, s3.

Belongs here: what all five share: settings (`settings.py`), errors (`errors.py`), clients (`client.py`; the heavy
half of it, `session.py`, is imported with the first client), and `arn:` as a destination (`arn.py`). Does not: what
is about one service; each has its own package below.
"""

from eventfn_aws.arn import ArnDestination

__all__ = ["ArnDestination"]
