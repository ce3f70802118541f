"""Who asks: the signature or the token of a request, held against the keys of [aws] and the sessions of functions.

Without keys any signature is taken as the account's root, on loopback only: a header that no web page can send unasked
shows that it is a client. On a connection of a function nothing counts but what that function was given, keys or not.
Not here: what the one who asks may do (authorization), what a signature is (signatures).
"""

from __future__ import annotations

import contextvars
import functools
import hmac
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from eventfn.api.errors import ApiError, lambda_error
from eventfn.api.signatures import BadSignature, Request, Signed, read, region_of, verify
from eventfn.aws.sessions import Session
from eventfn.functions.model import Aws

# Whose connection a request came on, where functions are answered: set for each of its requests.
asking_function: contextvars.ContextVar[str] = contextvars.ContextVar("asking_function")


@functools.lru_cache(maxsize=1024)
def session_policy(function: str) -> tuple[dict[str, Any], ...]:
    """What a function may do with the credentials that it was given: call others, go on with its own durable executions
    and answer callbacks whose id it was told. A key whose principal is its role says what it may do instead."""
    others = {"Effect": "Allow", "Action": ["lambda:Invoke*", "lambda:SendDurableExecutionCallback*"], "Resource": "*"}
    own = {
        "Effect": "Allow",
        "Action": ["lambda:CheckpointDurableExecution", "lambda:GetDurableExecutionState"],
        "Resource": f"arn:aws:lambda:*:*:function:{function}:*",
    }
    return others, own


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


class Callers(Protocol):
    """Who asks on some kind of connection."""

    def claim(self, request: Request, service: str = "lambda") -> Claim:
        """Who the request says it is from, before its body is read. Raises ApiError, in AWS's words."""
        ...

    def prove(self, claim: Claim, request: Request) -> Caller:
        """`request` is the whole one. Raises ApiError: it was not signed so, or not by him."""
        ...


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
        aws = self._aws()
        authorization = request.header("authorization") or ""
        if self.has_token(authorization):
            return Claim(Caller(root(aws.account), aws.region))
        unchecked = not aws.keys and self._loopback and request.header("x-amz-security-token") is None
        if unchecked and (region := region_of(authorization)) is not None:
            return Claim(Caller(root(aws.account), region))
        signed = _signature(request)
        if signed is None:
            raise _missing()
        session = None if signed.session_token is None else self._session(signed.access_key_id, signed.session_token)
        if aws.keys:
            return self._proven_by(signed, session, service, aws)
        if not self._loopback or signed.expires is not None:
            raise _missing()  # a presigned URL that nobody checks proves nothing: a web page can send one
        return Claim(Caller(root(aws.account) if session is None else _of_session(session, None), signed.region))

    def _proven_by(self, signed: Signed, session: Session | None, service: str, aws: Aws) -> Claim:
        _check_service(signed, service)
        if session is not None:
            return _claimed(signed, session, aws, self._now())
        key = next((key for key in aws.keys if key.access_key_id == signed.access_key_id), None)
        if key is None or signed.session_token is not None:
            raise _unknown()
        principal = Principal(arn=key.principal, account=key.principal.split(":")[4], policy=key.policy)
        return Claim(Caller(principal, signed.region), signed, key.secret_access_key)

    def prove(self, claim: Claim, request: Request) -> Caller:
        return _proven(claim, request, self._now())


class FunctionIdentities:
    """Who asks on a connection of a function: that function, with the credentials that it was given, or nobody.

    `aws`, `session` and `now` as of Identities. Neither the node's token nor a declared key is anything here, and
    another function's credentials are not either: functions that pass theirs on would be each other.
    """

    def __init__(
        self, aws: Callable[[], Aws], session: Callable[[str, str], Session | None], now: Callable[[], float]
    ) -> None:
        self._aws = aws
        self._session = session
        self._now = now

    def claim(self, request: Request, service: str = "lambda") -> Claim:
        signed = _signature(request)
        if signed is None:
            said = "Missing Authentication Token: sign the request with the credentials that the function was given"
            raise lambda_error("MissingAuthenticationTokenException", said)
        _check_service(signed, service)
        session = None if signed.session_token is None else self._session(signed.access_key_id, signed.session_token)
        if session is None or function_of(session) != asking_function.get():
            raise _unknown()
        return _claimed(signed, session, self._aws(), self._now())

    def prove(self, claim: Claim, request: Request) -> Caller:
        return _proven(claim, request, self._now())


def function_of(session: Session) -> str:
    """Its name."""
    return session.principal.rpartition("/")[2]


def _signature(request: Request) -> Signed | None:
    try:
        return read(request)
    except BadSignature as bad:
        raise lambda_error(bad.code, bad.message) from bad


def _check_service(signed: Signed, service: str) -> None:
    if signed.service != service:
        said = f"Credential should be scoped to correct service: '{service}'."
        raise lambda_error("InvalidSignatureException", said)


def _claimed(signed: Signed, session: Session, aws: Aws, now: float) -> Claim:
    if session.expires < now:
        raise lambda_error("ExpiredTokenException", "The security token included in the request is expired")
    return Claim(Caller(_of_session(session, aws), signed.region), signed, session.secret_access_key)


def _proven(claim: Claim, request: Request, now: float) -> Caller:
    if claim.signed is not None:
        try:
            verify(request, claim.signed, claim.secret, now)
        except BadSignature as bad:
            raise lambda_error(bad.code, bad.message) from bad
    return claim.caller


def _unknown() -> ApiError:
    return lambda_error("UnrecognizedClientException", "The security token included in the request is invalid.")


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
        policy = of_role[0] if of_role else session_policy(function_of(session))
    return Principal(arn=session.principal, account=account, policy=policy)
