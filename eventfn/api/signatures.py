"""AWS Signature Version 4: what a signature of a request says, and whether it is right.

PURE: the request, the secret and the time are passed in. Source: "AWS Signature Version 4 for API requests" and its
published test suite. In the path every segment is encoded twice, as services other than S3 have it. A signature can be
used again for as long as its time is near enough: SigV4 has no nonce.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote, unquote

import msgspec

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW = 300  # seconds that a signature may be from now, as at AWS
MAX_EXPIRES = 604_800  # seconds that a presigned URL is good for, at most
UNSIGNED = "UNSIGNED-PAYLOAD"

_UNRESERVED = "-_.~"
_TIME = re.compile(r"\d{8}T\d{6}Z", re.ASCII)
_FIELD = re.compile(r"\s*(Credential|SignedHeaders|Signature)=([^,\s]*)\s*")
_USUAL = re.compile(r"AWS4-HMAC-SHA256 Credential=([^,\s]+), ?SignedHeaders=([^,\s]+), ?Signature=([^,\s]+)")
_UNCHECKED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/,\s]+/[0-9]{8}/([a-z0-9-]{1,40})/[a-z0-9-]+/aws4_request, ?"
    r"SignedHeaders=[^,\s]+, ?Signature=[^,\s]+"
)
_REGION = re.compile(r"[a-z0-9-]{1,40}")
_HASH = re.compile(r"[0-9a-f]{64}")

WRONG = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


class BadSignature(Exception):
    """`code` and `message` as AWS answers."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"{code}: {message}")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is signed. `path` and `query` are as they came, encoded; header names in any case, in order."""

    method: str
    path: str
    query: str = ""
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The first of this name, which is in lower case."""
        for key, value in self.headers:
            if len(key) == len(name) and key.lower() == name:
                return value
        return None


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says about its signature."""

    access_key_id: str
    day: str  # "20150830"
    region: str
    service: str
    headers: tuple[str, ...]  # signed ones, lower case
    signature: str
    time: str  # "20150830T123600Z"
    expires: int | None  # seconds; None: not presigned
    session_token: str | None

    @property
    def scope(self) -> str:
        return f"{self.day}/{self.region}/{self.service}/aws4_request"


def region_of(header: str) -> str | None:
    """Of a whole signature in an Authorization header, in its usual form, that nobody is going to check."""
    found = _UNCHECKED.fullmatch(header)
    return None if found is None else found[1]


def read(request: Request) -> Signed | None:
    """None: it is not signed at all. Raises BadSignature."""
    header = request.header("authorization")
    if header is not None and header.startswith(ALGORITHM):
        return _in_header(request, header)
    query = dict(_pairs(request.query))
    if query.get("X-Amz-Algorithm") == ALGORITHM:
        return _in_query(query)
    return None


def _in_header(request: Request, header: str) -> Signed:
    usual, time = _USUAL.fullmatch(header), request.header("x-amz-date") or ""
    if usual is not None and _TIME.fullmatch(time):
        return _signed(usual[1], usual[2], usual[3], time, None, request.header("x-amz-security-token"))
    parts = map(_FIELD.fullmatch, header[len(ALGORITHM) :].split(","))
    fields = {str(part[1]): str(part[2]) for part in parts if part is not None}
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if not fields.get(name)]
    said = [f"Authorization header requires '{name}' parameter." for name in missing]
    if not _TIME.fullmatch(time):
        said.append("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
    if said:
        raise BadSignature("IncompleteSignatureException", " ".join(said))
    token = request.header("x-amz-security-token")
    return _signed(fields["Credential"], fields["SignedHeaders"], fields["Signature"], time, None, token)


def _in_query(query: Mapping[str, str]) -> Signed:
    needed = ("X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date", "X-Amz-Expires")
    missing = [name for name in needed if not query.get(name)]
    if missing or not _TIME.fullmatch(query["X-Amz-Date"]):
        said = " ".join(f"AWS query-string parameters must include '{name}'." for name in missing or ["X-Amz-Date"])
        raise BadSignature("IncompleteSignatureException", f"{said} Re-examine the query-string parameters.")
    expires = query["X-Amz-Expires"]
    if not expires.isascii() or not expires.isdigit() or not 0 < int(expires[:7]) <= MAX_EXPIRES or len(expires) > 7:
        said = f"X-Amz-Expires must be from 1 to {MAX_EXPIRES} seconds"
        raise BadSignature("IncompleteSignatureException", said)
    return _signed(
        query["X-Amz-Credential"],
        query["X-Amz-SignedHeaders"],
        query["X-Amz-Signature"],
        query["X-Amz-Date"],
        int(expires),
        query.get("X-Amz-Security-Token"),
    )


def _signed(credential: str, headers: str, signature: str, time: str, expires: int | None, token: str | None) -> Signed:
    parts = credential.split("/")
    if len(parts) != 5:
        said = (
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, "
            f"got '{credential}'"
        )
        raise BadSignature("IncompleteSignatureException", said)
    access_key_id, day, region, service, term = parts
    if not _REGION.fullmatch(region):
        raise BadSignature(
            "InvalidSignatureException", f"Credential should be scoped to a valid region, not '{region}'."
        )
    if term != "aws4_request":
        said = f"Credential should be scoped with a valid terminator: 'aws4_request', not '{term}'."
        raise BadSignature("InvalidSignatureException", said)
    if time[:8] != day:
        said = (
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{day}' != '{time[:8]}', from '{time}'."
        )
        raise BadSignature("InvalidSignatureException", said)
    return Signed(
        access_key_id=access_key_id,
        day=day,
        region=region,
        service=service,
        headers=tuple(headers.split(";")),
        signature=signature,
        time=time,
        expires=expires,
        session_token=token,
    )


def verify(request: Request, signed: Signed, secret: str, now: float) -> None:
    """`now`: seconds since the epoch. Raises BadSignature. How long it takes says nothing about the secret."""
    _unsigned_headers(request, signed)
    expected = signature(request, signed, secret, payload_hash(request))
    right = hmac.compare_digest(expected.encode(), signed.signature.encode(errors="surrogateescape"))
    if not right:
        raise BadSignature("InvalidSignatureException", WRONG)
    _in_time(signed, now)


def payload_hash(request: Request) -> str:
    """What is signed of the body. Raises BadSignature: it is not the body that was sent."""
    said = request.header("x-amz-content-sha256")
    if said == UNSIGNED:
        return said
    found = hashlib.sha256(request.body).hexdigest()
    if said is not None and not (_HASH.fullmatch(said) and hmac.compare_digest(said, found)):
        message = "The value of the header x-amz-content-sha256 is not the SHA-256 of the body that was sent."
        raise BadSignature("InvalidSignatureException", message)
    return found


def signature(request: Request, signed: Signed, secret: str, payload: str) -> str:
    canonical = hashlib.sha256(canonical_request(request, signed.headers, payload).encode(errors="surrogateescape"))
    to_sign = "\n".join((ALGORITHM, signed.time, signed.scope, canonical.hexdigest()))
    key = f"AWS4{secret}".encode()
    for part in (signed.day, signed.region, signed.service, "aws4_request"):
        key = hmac.digest(key, part.encode(errors="surrogateescape"), "sha256")
    return hmac.new(key, to_sign.encode(errors="surrogateescape"), "sha256").hexdigest()


def canonical_request(request: Request, headers: Sequence[str], payload: str) -> str:
    values: dict[str, list[str]] = {}
    for key, value in request.headers:
        values.setdefault(key.lower(), []).append(" ".join(value.split()))
    return "\n".join(
        (
            request.method,
            _quoted(_without_dots(request.path), "/"),
            _canonical_query(request.query),
            *(f"{name}:{','.join(values.get(name, []))}" for name in headers),
            "",
            ";".join(headers),
            payload,
        )
    )


def _canonical_query(query: str) -> str:
    encoded = [(_quoted(key), _quoted(value)) for key, value in _pairs(query) if key != "X-Amz-Signature"]
    return "&".join(f"{key}={value}" for key, value in sorted(encoded))


def _quoted(text: str, also: str = "") -> str:
    return quote(text, safe=_UNRESERVED + also, errors="surrogateescape")


def _pairs(query: str) -> Iterable[tuple[str, str]]:
    """Decoded; a "+" is a "+"."""
    for part in query.split("&"):
        if part:
            key, _, value = part.partition("=")
            yield unquote(key, errors="surrogateescape"), unquote(value, errors="surrogateescape")


def _without_dots(path: str) -> str:
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    return "/" + "/".join(kept) + ("/" if kept and path.endswith("/") else "")


def _unsigned_headers(request: Request, signed: Signed) -> None:
    """What the service reads must be signed: without that, who sees a request could change it."""
    present = {key.lower() for key, _ in request.headers}
    needed = {"host", *(key for key in present if key.startswith("x-amz-"))} - set(signed.headers)
    if needed:
        names = ", ".join(sorted(needed))
        raise BadSignature("InvalidSignatureException", f"Headers that must be signed are not: {names}")


def _in_time(signed: Signed, now: float) -> None:
    try:
        made = datetime.datetime.strptime(signed.time, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC).timestamp()
    except ValueError as error:
        raise BadSignature("IncompleteSignatureException", f"'{signed.time}' is no time") from error
    minutes = SKEW // 60
    if made > now + SKEW:
        said = f"{signed.time} is still later than {_time(now + SKEW)} ({_time(now)} + {minutes} min.)"
        raise BadSignature("InvalidSignatureException", f"Signature not yet current: {said}")
    if made + (SKEW if signed.expires is None else signed.expires) < now:
        said = f"{signed.time} is now earlier than {_time(now - SKEW)} ({_time(now)} - {minutes} min.)"
        raise BadSignature("InvalidSignatureException", f"Signature expired: {said}")


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
