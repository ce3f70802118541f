"""How a queue is named: "jobs", its URL or its ARN.

PURE.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import msgspec

from eventfn_aws.arns import Arn

EXPECTED = (
    "expected a queue's name, URL or ARN; a name has 1 to 80 letters, digits, '-' and '_', "
    "and a FIFO queue's ends in '.fifo'"
)
_NAME = re.compile(r"(?=.{1,80}\Z)[A-Za-z0-9_-]+(\.fifo)?")
_AWS_HOST = re.compile(r"(?:sqs\.(?P<new>[a-z0-9-]+)|(?P<old>[a-z0-9-]+)\.queue)\.amazonaws\.com(?:\.cn)?")


class QueueName(msgspec.Struct, frozen=True):
    name: str
    account: str | None = None
    region: str | None = None
    url: str | None = None
    endpoint: str | None = None  # of a URL that is not AWS's: the server is found there

    @property
    def fifo(self) -> bool:
        return self.name.endswith(".fifo")

    @classmethod
    def parse(cls, text: str) -> QueueName:
        """Raises ValueError."""
        if text.startswith(("http://", "https://")):
            parsed = _of_url(text)
        elif arn := Arn.parse(text):
            parsed = cls(arn.resource, arn.account, arn.region) if arn.service == "sqs" else None
        else:
            parsed = cls(text)
        if parsed is None or not _NAME.fullmatch(parsed.name):
            raise ValueError(EXPECTED)
        return parsed


def _of_url(text: str) -> QueueName | None:
    try:
        url = urlsplit(text)
        host, _ = url.hostname, url.port  # the port is parsed only now
    except ValueError:
        return None
    *_, account, name = ("", *url.path.strip("/").split("/"))
    if not host or url.username is not None or url.query or url.fragment:
        return None
    aws = _AWS_HOST.fullmatch(host)
    region = (aws["new"] or aws["old"]) if aws else None
    return QueueName(name, account or None, region, text, None if aws else f"{url.scheme}://{url.netloc}")
