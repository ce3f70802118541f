"""How to reach AWS: the keys of [sqs], [sns], [kinesis], [dynamodb] and [s3], and of [destinations.sqs] and the others.

PURE.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec


class AwsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is not set is found where every AWS tool finds it: environment, ~/.aws, the machine's role."""

    region: str | None = None
    endpoint_url: str | None = None  # of a server that is not AWS's: "http://127.0.0.1:9324"
    profile: str | None = None  # in ~/.aws/config
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None

    def __post_init__(self) -> None:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            missing = "secret_access_key" if self.secret_access_key is None else "access_key_id"
            raise ValueError(f"{missing}: access_key_id and secret_access_key belong together, and this one is missing")
        if self.session_token is not None and self.access_key_id is None:
            raise ValueError("session_token: expected access_key_id and secret_access_key beside it")
        if self.profile is not None and self.access_key_id is not None:
            raise ValueError("profile: expected either a profile or access_key_id, not both")
        if self.endpoint_url is not None and not _is_url(self.endpoint_url):
            raise ValueError('endpoint_url: expected a URL such as "http://127.0.0.1:9324"')


def _is_url(text: str) -> bool:
    try:
        url = urlsplit(text)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False
