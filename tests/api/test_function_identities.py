"""Who asks on a connection of a function: it, with what it was given, or nobody."""

from __future__ import annotations

from typing import Any

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

from eventfn.api.errors import ApiError
from eventfn.api.identity import FunctionIdentities, asking_function, session_policy
from eventfn.api.signatures import SKEW, Request
from eventfn.aws.sessions import Credentials, Sessions
from eventfn.clock import SystemClock
from eventfn.functions.model import AccessKey, Aws

ACCOUNT = "000000000000"
HELLO = f"arn:aws:sts::{ACCOUNT}:assumed-role/strong/hello"
POLICY = ({"Effect": "Allow", "Action": "lambda:*", "Resource": "*"},)
KEYS = (
    AccessKey(access_key_id="DECLARED", secret_access_key="declared-secret", principal=f"arn:aws:iam::{ACCOUNT}:root"),
    AccessKey(
        access_key_id="ROLE",
        secret_access_key="declared-secret",
        principal=f"arn:aws:iam::{ACCOUNT}:role/strong",
        policy=POLICY,
    ),
)
URL = "http://127.0.0.1:9001/2015-03-31/functions/"


def signed(access_key_id: str, secret: str, token: str | None, service: str = "lambda") -> Request:
    request: Any = botocore.awsrequest.AWSRequest("GET", URL)
    credentials = botocore.credentials.Credentials(access_key_id, secret, token)
    request.headers["Host"] = "127.0.0.1:9001"
    botocore.auth.SigV4Auth(credentials, service, "us-east-1").add_auth(request)
    return Request(method="GET", path="/2015-03-31/functions/", headers=list(request.headers.items()))


class Asked:
    def __init__(self, aws: Aws) -> None:
        self.sessions = Sessions()
        self.now = SystemClock().now_ms() / 1000
        self.identities = FunctionIdentities(lambda: aws, self.sessions.recognise, lambda: self.now)
        asking_function.set("hello")

    def given(self, principal: str = HELLO, seconds: float = 60) -> Credentials:
        return self.sessions.mint(principal, ACCOUNT, self.now + seconds)

    def policy(self, request: Request) -> Any:
        caller = self.identities.prove(self.identities.claim(request), request)
        assert caller.principal.arn == HELLO
        return caller.principal.policy

    def refused(self, request: Request) -> str:
        with pytest.raises(ApiError) as caught:
            self.identities.prove(self.identities.claim(request), request)
        return caught.value.code


def by(given: Credentials, **other: str) -> Request:
    return signed(given.access_key_id, given.secret_access_key, given.session_token, **other)


@pytest.mark.parametrize(("keys", "policy"), [((), session_policy("hello")), (KEYS, POLICY)])
def test_it_is_itself_with_the_policy_of_its_role(keys: tuple[AccessKey, ...], policy: object) -> None:
    asked = Asked(Aws(keys=keys))
    assert asked.policy(by(asked.given())) == policy


@pytest.mark.parametrize("keys", [(), KEYS])
def test_nothing_else_is_anybody(keys: tuple[AccessKey, ...]) -> None:
    asked = Asked(Aws(keys=keys))
    given = asked.given()
    assert asked.refused(signed("DECLARED", "declared-secret", None)) == "UnrecognizedClientException"
    assert asked.refused(signed("ROLE", "declared-secret", None)) == "UnrecognizedClientException"
    others = asked.given(HELLO.replace("/hello", "/other"))
    assert asked.refused(by(others)) == "UnrecognizedClientException"
    wrong = signed(given.access_key_id, "wrong", given.session_token)
    assert asked.refused(wrong) == "InvalidSignatureException"
    assert asked.refused(by(given, service="logs")) == "InvalidSignatureException"
    assert asked.refused(by(asked.given(seconds=-1))) == "ExpiredTokenException"
    replayed = by(asked.given(seconds=1000))
    asked.now += SKEW + 5
    assert asked.refused(replayed) == "InvalidSignatureException"
