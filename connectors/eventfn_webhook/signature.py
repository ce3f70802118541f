"""The headers of a Standard Webhook, from which a receiver knows who sent it, when, and whether it saw it before.

PURE. Source: the Standard Webhooks specification (standardwebhooks.com), symmetric signatures.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

PREFIX = "whsec_"
_KEY_BYTES = range(24, 65)  # by the specification


def key_of(secret: str) -> bytes:
    """The key in "whsec_<base64>". Raises ValueError, whose message never shows the secret."""
    expected = f"expected a secret such as {PREFIX}<base64 of {_KEY_BYTES.start} to {_KEY_BYTES.stop - 1} random bytes>"
    if not secret.startswith(PREFIX):
        raise ValueError(expected)
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        raise ValueError(f"{expected}: what follows {PREFIX} is not base64") from None
    if len(key) not in _KEY_BYTES:
        raise ValueError(f"{expected}: it has {len(key)}")
    return key


def signed_headers(record_id: str, seconds: int, body: bytes, key: bytes | None) -> dict[str, str]:
    """`seconds` is the time of this try, since the epoch. Without a key there is no signature."""
    headers = {"webhook-id": record_id, "webhook-timestamp": str(seconds)}
    if key is not None:
        signed = hmac.digest(key, b"%s.%d.%s" % (record_id.encode(), seconds, body), hashlib.sha256)
        headers["webhook-signature"] = f"v1,{base64.b64encode(signed).decode()}"
    return headers
