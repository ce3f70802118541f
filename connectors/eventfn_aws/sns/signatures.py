"""Whether a message is from SNS: its signature, by a certificate that is fetched from SNS and kept.

Imported with the endpoint, by a thread.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256

from eventfn.clock import Clock
from eventfn_aws.sns.messages import Envelope, trusted

_MOST_CERTIFICATES = 64  # AWS has one in a region, and a new one now and then


class Forged(Exception):
    """It is not from SNS, or cannot be told to be."""


class Signatures:
    """`fetch(url)` gets a file from SNS; what it raises is raised here too."""

    def __init__(self, fetch: Callable[[str], Awaitable[bytes]], endpoint_url: str | None, clock: Clock) -> None:
        self._fetch = fetch
        self._endpoint_url = endpoint_url
        self._clock = clock
        self._certificates: dict[str, x509.Certificate] = {}

    async def check(self, envelope: Envelope) -> None:
        """Raises Forged."""
        certificate = await self._certificate(envelope.signing_cert_url)
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise Forged("its certificate is not valid now")
        key = certificate.public_key()
        if not isinstance(key, rsa.RSAPublicKey):
            raise Forged("its certificate has another kind of key than SNS's have")
        if envelope.signature_version not in ("1", "2"):
            raise Forged(f"SignatureVersion {envelope.signature_version!r} is not known")
        # SHA-1 is what version 1 is, and what topics have unless they are set to 2.
        algorithm = SHA256() if envelope.signature_version == "2" else SHA1()  # noqa: S303
        try:
            signature = base64.b64decode(envelope.signature, validate=True)
            key.verify(signature, envelope.signed_text(), padding.PKCS1v15(), algorithm)
        except (InvalidSignature, binascii.Error) as error:
            raise Forged("its signature is wrong") from error

    async def _certificate(self, url: str) -> x509.Certificate:
        place = trusted(url, self._endpoint_url)
        if place is None or not place.partition("?")[0].endswith(".pem"):
            raise Forged("its SigningCertURL is not one of SNS")
        if place not in self._certificates:
            pem = await self._fetch(place)
            try:
                certificate = x509.load_pem_x509_certificate(pem)
            except ValueError as error:
                raise Forged("what its SigningCertURL gives is no certificate") from error
            while len(self._certificates) >= _MOST_CERTIFICATES:
                del self._certificates[next(iter(self._certificates))]
            self._certificates[place] = certificate
        return self._certificates[place]
