"""Who asks: the signature or the token of a request, held against the keys of [aws] and the sessions of functions.

Without keys any signature is taken as the account's root, on loopback only: a header that no web page can send unasked
shows that it is a client. Not here: what the one who asks may do (authorization), what a signature is (signatures).
"""

from __future__ import annotations

import functools
import hmac
from collections.abc import Callable
from typing import Any

import msgspec

from eventfn.api.errors import ApiError, lambda_error
from eventfn.api.signatures import BadSignature, Request, Signed, read, region_of, verify
from eventfn.aws.sessions import Session
from eventfn.functions.model import Aws

# What a function may do with the credentials that it was given, where keys say who may do what: call others, and go on
# with its own durable executions. A key whose principal is the function's role says what it may do instead.
SESSION_POLICY: tuple[dict[str, Any], ...] = (
    {
        "Effect": "Allow",
        "Action": [
            "lambda:Invoke*",
            "lambda:CheckpointDurableExecution",
            "lambda:GetDurableExecution*",
            "lambda:SendDurableExecutionCallback*",
        ],
        "Resource": "*",
    },
)


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """An identity of an account, as a signature or the node's own token has proven it."""

    arn: str  # "arn:aws:iam::000000000000:root"
    account: str
    policy: tuple[dict[str, Any], ...] | None = None  # IAM statements; None: everything in its account


class Caller(msgspec.Struct, frozen=True):
    principal: Principal
    region: str  # that the request is signed for, else [aws] region


class Claim(msgspec.Struct, frozen=True):
    """Who a request says it is from. Where it is `signed`, that is still to be proven."""

    caller: Caller
    signed: Signed | None = None
    secret: str = ""

    def __repr__(self) -> str:
        """Without the secret: a representation ends in logs."""
        return f"Claim({self.caller!r})"


@functools.lru_cache(maxsize=8)
def root(account: str) -> Principal:
    """Who may everything in `account`."""
    return Principal(arn=f"arn:aws:iam::{account}:root", account=account)


class Identities:
    """`aws` is what is declared now; `session` recognises credentials that functions were given; `now` is in seconds
    since the epoch."""

    def __init__(
        self,
        token: str,
        aws: Callable[[], Aws],
        session: Callable[[str, str], Session | None],
        now: Callable[[], float],
        *,
        loopback: bool,
    ) -> None:
        self._expected = f"Bearer {token}".encode()
        self._aws = aws
        self._session = session
        self._now = now
        self._loopback = loopback

    def has_token(self, authorization: str | None) -> bool:
        """Whether it is the header of who reads the data folder."""
        return hmac.compare_digest((authorization or "").encode(errors="surrogateescape"), self._expected)

    def claim(self, request: Request, service: str = "lambda") -> Claim:
        """Who the request says it is from, before its body is read. Raises ApiError, in AWS's words."""
        aws = self._aws()
        authorization = request.header("authorization") or ""
        if self.has_token(authorization):
            return Claim(Caller(root(aws.account), aws.region))
        unchecked = not aws.keys and self._loopback and request.header("x-amz-security-token") is None
        if unchecked and (region := region_of(authorization)) is not None:
            return Claim(Caller(root(aws.account), region))
        try:
            signed = read(request)
        except BadSignature as bad:
            raise lambda_error(bad.code, bad.message) from bad
        if signed is None:
            raise _missing()
        session = None if signed.session_token is None else self._session(signed.access_key_id, signed.session_token)
        if aws.keys:
            return self._proven_by(signed, session, service, aws)
        if not self._loopback or signed.expires is not None:
            raise _missing()  # a presigned URL that nobody checks proves nothing: a web page can send one
        return Claim(Caller(root(aws.account) if session is None else _of_session(session, None), signed.region))

    def _proven_by(self, signed: Signed, session: Session | None, service: str, aws: Aws) -> Claim:
        if signed.service != service:
            said = f"Credential should be scoped to correct service: '{service}'."
            raise lambda_error("InvalidSignatureException", said)
        if session is not None:
            if session.expires < self._now():
                raise lambda_error("ExpiredTokenException", "The security token included in the request is expired")
            return Claim(Caller(_of_session(session, aws), signed.region), signed, session.secret_access_key)
        key = next((key for key in aws.keys if key.access_key_id == signed.access_key_id), None)
        if key is None or signed.session_token is not None:
            raise lambda_error("UnrecognizedClientException", "The security token included in the request is invalid.")
        principal = Principal(arn=key.principal, account=key.principal.split(":")[4], policy=key.policy)
        return Claim(Caller(principal, signed.region), signed, key.secret_access_key)

    def prove(self, claim: Claim, request: Request) -> Caller:
        """`request` is the whole one. Raises ApiError: it was not signed so, or not by him."""
        if claim.signed is not None:
            try:
                verify(request, claim.signed, claim.secret, self._now())
            except BadSignature as bad:
                raise lambda_error(bad.code, bad.message) from bad
        return claim.caller


def _missing() -> ApiError:
    return lambda_error(
        "MissingAuthenticationTokenException",
        "Missing Authentication Token: sign the request with AWS credentials, or send the header "
        "'Authorization: Bearer <token>' with the token in <data>/node.json",
    )


def _of_session(session: Session, aws: Aws | None) -> Principal:
    """`aws` is None where nobody's rights are looked at."""
    _, partition, _, _, account, name = session.principal.split(":", 5)
    role = f"arn:{partition}:iam::{account}:role/{name.split('/')[1]}"
    policy = None
    if aws is not None:
        of_role = [key.policy for key in aws.keys if key.principal == role]
        policy = of_role[0] if of_role else SESSION_POLICY
    return Principal(arn=session.principal, account=account, policy=policy)
