"""Who may call: where the node listens, which routes ask for a token, whether a token is right. PURE.

The rule (on any address but loopback nothing is open by accident): a route says auth = "none" or auth = "token"; one
that says nothing asks for a token where tokens are declared, is open on loopback where none are, and is refused
elsewhere.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Sequence
from typing import Literal

import msgspec

Auth = Literal["none", "token"]


EXPECTED_ADDRESS = 'an address of this machine and a port, such as "127.0.0.1:8080" or "[::1]:80" (port 0 is any free)'


class Address(msgspec.Struct, frozen=True):
    """Where to listen: an IP address and a port."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """From "127.0.0.1:8080", "localhost:8080", "[::1]:0". Raises ValueError.

        Names other than localhost are refused: which address they mean, and who can reach it, is not known here.
        """
        host, _, port = text.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        try:
            ip = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host[1:-1] if bracketed else host)
        except ValueError:
            raise ValueError(f"expected {EXPECTED_ADDRESS}, got {text!r}") from None
        if bracketed != (ip.version == 6) or not (port.isascii() and port.isdigit() and int(port) < 65536):
            raise ValueError(f"expected {EXPECTED_ADDRESS}, got {text!r}")
        return cls(str(ip), int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        return ipaddress.ip_address(self.host).is_loopback


def required(auth: Auth | None, tokens: Sequence[str], loopback: bool) -> Auth:
    """What a route asks for. Closed where the rule refuses: "token" without tokens lets nobody in."""
    if auth is not None:
        return auth
    return "none" if loopback and not tokens else "token"


def mistake(auth: Auth | None, tokens: Sequence[str], address: Address) -> str | None:
    """What is wrong with a route's auth, and what to do about it."""
    if auth == "token" and not tokens:
        return 'auth = "token" needs tokens: set tokens in [http]'
    if auth is None and not tokens and not address.loopback:
        return (
            f"{address} can be reached from other machines, and this route does not say who may call it: "
            'set tokens in [http], or auth = "none" here to let everybody in'
        )
    return None


class Tokens:
    """Compares in a time that tells nothing about the tokens."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = [token.encode() for token in tokens]

    def presented(self, headers: dict[str, str]) -> str | None:
        """The name of the header that carries a right token: authorization (Bearer) or x-api-key."""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._known(bearer.strip()):
            return "authorization"
        return "x-api-key" if self._known(headers.get("x-api-key", "")) else None

    def _known(self, given: str) -> bool:
        known = False
        for token in self._tokens:  # all of them, so that the time does not say which one it was
            known |= hmac.compare_digest(token, given.encode("utf-8", "surrogateescape"))
        return known
