"""Session credentials that the node itself gives to functions, and knows again when one signs a request with them.

Nothing is kept of its own: who they are for and how long stands in the session token, sealed with a key of this
process, and the secret follows from the token. Those that STS has given are remembered. A node's environments end with
it, so after a restart the old ones are nobody's.

The access key id is written as AWS writes its own (ASIA..., the account in its first bits), so that servers that read
the account from it find the right one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

import msgspec

_ACCOUNT_BITS = 40
_MOST_REMEMBERED = 10_000
_SEAL = hashlib.sha256().digest_size


class Credentials(msgspec.Struct, frozen=True, kw_only=True):
    """As AssumeRole answers them. `expires`: seconds since the epoch."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expires: float

    def __repr__(self) -> str:
        """Without the secrets: a representation ends in logs."""
        return f"Credentials({self.access_key_id!r})"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Whose credentials they are: what a signature is held against. Whether they have expired is for the reader."""

    principal: str  # "arn:aws:sts::000000000000:assumed-role/ROLE/FUNCTION"
    secret_access_key: str
    expires: float  # seconds since the epoch

    def __repr__(self) -> str:
        return f"Session({self.principal!r})"


class Sessions:
    """One for a node: what `mint` has given, and what `remember` was told of, `recognise` knows."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._remembered: dict[str, tuple[str, Session]] = {}  # token -> access key id, whose it is

    def mint(self, principal: str, account: str, expires: float) -> Credentials:
        access_key_id = _access_key_id(account)
        said = msgspec.json.encode((principal, access_key_id, expires))
        token = base64.b64encode(self._sealed(said) + said).decode()
        return Credentials(
            access_key_id=access_key_id,
            secret_access_key=self._secret(token),
            session_token=token,
            expires=expires,
        )

    def remember(self, credentials: Credentials, principal: str) -> None:
        """Somebody else has given them, to one of this node's functions."""
        session = Session(
            principal=principal, secret_access_key=credentials.secret_access_key, expires=credentials.expires
        )
        self._remembered[credentials.session_token] = credentials.access_key_id, session
        if len(self._remembered) > _MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]

    def recognise(self, access_key_id: str, session_token: str) -> Session | None:
        """None: no function of this node has them, since it was started."""
        known = self._remembered.get(session_token)
        if known is not None:
            return known[1] if known[0] == access_key_id else None
        try:
            token = base64.b64decode(session_token, validate=True)
        except (binascii.Error, ValueError):
            return None
        if base64.b64encode(token).decode() != session_token:
            return None  # another way to write the same bytes
        seal, said = token[:_SEAL], token[_SEAL:]
        if not hmac.compare_digest(seal, self._sealed(said)):
            return None
        principal, own_id, expires = msgspec.json.decode(said, type=tuple[str, str, float])
        if own_id != access_key_id:
            return None
        return Session(principal=principal, secret_access_key=self._secret(session_token), expires=expires)

    def _sealed(self, said: bytes) -> bytes:
        return hmac.digest(self._key, b"token" + said, "sha256")

    def _secret(self, token: str) -> str:
        return base64.b64encode(hmac.digest(self._key, b"secret" + token.encode(), "sha256")).decode()[:40]


def _access_key_id(account: str) -> str:
    """ "ASIA" and 80 bits: a one, the account in 40, and what is random."""
    number = 1 << 79 | int(account) << (79 - _ACCOUNT_BITS) | secrets.randbits(79 - _ACCOUNT_BITS)
    return "ASIA" + base64.b32encode(number.to_bytes(10, "big")).decode()
