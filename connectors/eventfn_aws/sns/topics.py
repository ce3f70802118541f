"""How a topic is named: "alerts" or its ARN.

PURE.
"""

from __future__ import annotations

import re

from eventfn_aws.arns import Arn

EXPECTED = "expected a topic's name or ARN; a name has letters, digits, '-' and '_', and a FIFO topic's ends in '.fifo'"
_NAME = re.compile(r"(?=.{1,256}\Z)[A-Za-z0-9_-]+(\.fifo)?")


def topic_arn(text: str) -> Arn | None:
    """None when it is no ARN of a topic."""
    arn = Arn.parse(text)
    return arn if arn and arn.service == "sns" and arn.account and _NAME.fullmatch(arn.resource) else None


def is_topic(text: str) -> bool:
    return topic_arn(text) is not None or _NAME.fullmatch(text) is not None
