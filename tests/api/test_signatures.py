"""Signature Version 4 against the vectors of AWS's test suite, against botocore's signers, and against forgers."""

from __future__ import annotations

import datetime
import hashlib
from typing import Any
from urllib.parse import urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.api import signatures
from eventfn.api.signatures import SKEW, BadSignature, Request, read, verify

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TIME = "20150830T123600Z"
NOW = datetime.datetime(2015, 8, 30, 12, 36, tzinfo=datetime.UTC).timestamp()
HOST = ("Host", "example.amazonaws.com")
DATE = ("X-Amz-Date", TIME)
FORM = ("Content-Type", "application/x-www-form-urlencoded")


def signed(request: Request, names: str, value: str, scope: str = "us-east-1/service") -> Request:
    header = (
        f"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/{scope}/aws4_request, "
        f"SignedHeaders={names}, Signature={value}"
    )
    return msgspec.structs.replace(request, headers=(*request.headers, ("Authorization", header)))


# Name in the suite -> request, signed headers, signature.
VECTORS = {
    "get-vanilla": (
        Request(method="GET", path="/", headers=(HOST, DATE)),
        "host;x-amz-date",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-relative": (
        Request(method="GET", path="/example/..", headers=(HOST, DATE)),
        "host;x-amz-date",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-slash": (
        Request(method="GET", path="//", headers=(HOST, DATE)),
        "host;x-amz-date",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    ),
    "get-utf8": (
        Request(method="GET", path="/ሴ", headers=(HOST, DATE)),
        "host;x-amz-date",
        "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85",
    ),
    "get-unreserved": (
        Request(
            method="GET",
            path="/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
            headers=(HOST, DATE),
        ),
        "host;x-amz-date",
        "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
    ),
    "get-vanilla-empty-query-key": (
        Request(method="GET", path="/", query="Param1=value1", headers=(HOST, DATE)),
        "host;x-amz-date",
        "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
    ),
    "get-vanilla-query-order-key-case": (
        Request(method="GET", path="/", query="Param2=value2&Param1=value1", headers=(HOST, DATE)),
        "host;x-amz-date",
        "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
    ),
    "get-header-value-trim": (
        Request(
            method="GET", path="/", headers=(HOST, ("My-Header1", " value1"), ("My-Header2", ' "a   b   c"'), DATE)
        ),
        "host;my-header1;my-header2;x-amz-date",
        "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
    ),
    "post-vanilla": (
        Request(method="POST", path="/", headers=(HOST, DATE)),
        "host;x-amz-date",
        "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
    ),
    "post-x-www-form-urlencoded": (
        Request(method="POST", path="/", headers=(FORM, HOST, DATE), body=b"Param1=value1"),
        "content-type;host;x-amz-date",
        "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_the_published_vectors(name: str) -> None:
    request, names, value = VECTORS[name]
    request = signed(request, names, value)
    found = read(request)
    assert found is not None
    verify(request, found, SECRET, NOW)
    with pytest.raises(BadSignature, match="does not match the signature you provided"):
        verify(request, found, SECRET + "x", NOW)


def by_botocore(
    method: str,
    url: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    *,
    presigned: int | None = None,
    token: str | None = None,
) -> Request:
    """A request of now, as botocore signs it for Lambda."""
    credentials = botocore.credentials.Credentials("AKIDEXAMPLE", SECRET, token)
    asked: Any = botocore.awsrequest.AWSRequest(method, url, headers=headers or {}, data=body)
    if presigned is None:
        botocore.auth.SigV4Auth(credentials, "lambda", "eu-west-1").add_auth(asked)
    else:
        botocore.auth.SigV4QueryAuth(credentials, "lambda", "eu-west-1", expires=presigned).add_auth(asked)
    prepared = asked.prepare()
    target = urlsplit(prepared.url)
    sent = [("Host", target.netloc), *((str(key), _text(value)) for key, value in prepared.headers.items())]
    return Request(method=method, path=target.path, query=target.query, headers=sent, body=body)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def now() -> float:
    return datetime.datetime.now(datetime.UTC).timestamp()


URLS = [
    "http://127.0.0.1:9001/2015-03-31/functions",
    "http://127.0.0.1:9001/2015-03-31/functions/",
    "http://127.0.0.1:9001/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af/invocations?Qualifier=%24LATEST",
    "http://localhost/2017-03-31/tags/a%2Fb?tagKeys=a%20b&tagKeys=a&tagKeys=%C3%A9",
    "http://[::1]:8080/2018-10-31/layers?find=LayerVersion&Arn=x%2By",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("presigned", [None, 60])
@pytest.mark.parametrize("token", [None, "session/token+=="])
def test_what_botocore_signs_is_right(url: str, presigned: int | None, token: str | None) -> None:
    sent = {"X-Amz-Log-Type": "Tail", "Content-Type": "application/json"}
    body = b'{"a": 1}' if presigned is None else b""  # whose presigned URLs are without
    request = by_botocore("POST", url, body, sent, presigned=presigned, token=token)
    found = read(request)
    assert found is not None
    assert (found.access_key_id, found.region, found.service) == ("AKIDEXAMPLE", "eu-west-1", "lambda")
    assert (found.session_token, found.expires) == (token, presigned)
    verify(request, found, SECRET, now())


CHANGES: dict[str, Any] = {
    "another method": {"method": "PUT"},
    "another path": {"path": "/2015-03-31/functions/g/invocations"},
    "another query": {"query": "Qualifier=2"},
    "no query": {"query": ""},
    "another body": {"body": b"[]"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_on_its_way_is_refused(change: str) -> None:
    url = "http://127.0.0.1/2015-03-31/functions/f/invocations?Qualifier=1"
    request = by_botocore("POST", url, b"{}")
    found = read(request)
    assert found is not None
    verify(request, found, SECRET, now())
    with pytest.raises(BadSignature, match="does not match") as caught:
        verify(msgspec.structs.replace(request, **CHANGES[change]), found, SECRET, now())
    assert caught.value.code == "InvalidSignatureException"


@pytest.mark.parametrize("name", ["Host", "X-Amz-Invocation-Type"])
def test_a_signed_header_that_was_changed_is_refused(name: str) -> None:
    request = by_botocore("POST", "http://127.0.0.1/x", b"{}", {"X-Amz-Invocation-Type": "Event"})
    found = read(request)
    assert found is not None
    changed = [(key, "RequestResponse" if key == name else value) for key, value in request.headers]
    with pytest.raises(BadSignature, match="does not match"):
        verify(msgspec.structs.replace(request, headers=changed), found, SECRET, now())


def test_a_header_that_was_added_on_the_way_is_refused() -> None:
    request = by_botocore("POST", "http://127.0.0.1/x")
    found = read(request)
    assert found is not None
    more = msgspec.structs.replace(request, headers=[*request.headers, ("X-Amz-Invocation-Type", "Event")])
    with pytest.raises(BadSignature, match="must be signed are not: x-amz-invocation-type"):
        verify(more, found, SECRET, now())


@pytest.mark.parametrize(
    ("later", "right"), [(0, True), (SKEW, True), (-SKEW, True), (SKEW + 2, False), (-SKEW - 2, False)]
)
def test_a_signature_is_good_for_five_minutes(later: int, right: bool) -> None:
    request, names, value = VECTORS["get-vanilla"]
    request = signed(request, names, value)
    found = read(request)
    assert found is not None
    if right:
        verify(request, found, SECRET, NOW + later)
        return
    with pytest.raises(BadSignature, match=r"Signature expired|Signature not yet current"):
        verify(request, found, SECRET, NOW + later)


@pytest.mark.parametrize(("later", "right"), [(0, True), (3599, True), (3602, False), (-SKEW - 2, False)])
def test_a_presigned_url_is_good_as_long_as_it_says(later: int, right: bool) -> None:
    request = by_botocore("GET", "http://127.0.0.1/2015-03-31/functions", presigned=3600)
    found, at = read(request), now()
    assert found is not None
    if right:
        verify(request, found, SECRET, at + later)
        return
    with pytest.raises(BadSignature, match=r"Signature expired|Signature not yet current"):
        verify(request, found, SECRET, at + later)


def test_the_hash_that_a_header_says_is_held_against_the_body() -> None:
    body = b"{}"
    for said, right in (
        (hashlib.sha256(body).hexdigest(), True),
        (hashlib.sha256(b"[]").hexdigest(), False),
        ("UNSIGNED-PAYLOAD", True),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", False),
    ):
        request = by_botocore("POST", "http://127.0.0.1/x", body, {"X-Amz-Content-SHA256": said})
        found = read(request)
        assert found is not None
        if right:
            verify(request, found, SECRET, now())
            continue
        with pytest.raises(BadSignature, match="not the SHA-256 of the body"):
            verify(request, found, SECRET, now())


SCOPE = "AKID/20150830/us-east-1/lambda/aws4_request"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("AWS4-HMAC-SHA256", "IncompleteSignatureException"),
        (f"AWS4-HMAC-SHA256 Credential={SCOPE}", "IncompleteSignatureException"),
        (f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=host", "IncompleteSignatureException"),
        ("AWS4-HMAC-SHA256 Credential=AKID, SignedHeaders=host, Signature=0", "IncompleteSignatureException"),
        (f"AWS4-HMAC-SHA256 Credential={SCOPE}x, SignedHeaders=host, Signature=0", "InvalidSignatureException"),
        (f"AWS4-HMAC-SHA256 Credential={SCOPE[:-2]}, SignedHeaders=host, Signature=0", "InvalidSignatureException"),
        (
            f"AWS4-HMAC-SHA256 Credential={SCOPE.replace('0830', '0829')}, SignedHeaders=host, Signature=0",
            "InvalidSignatureException",
        ),
    ],
)
def test_half_a_signature_is_none(header: str, code: str) -> None:
    with pytest.raises(BadSignature) as caught:
        read(Request(method="GET", path="/", headers=(HOST, DATE, ("Authorization", header))))
    assert caught.value.code == code


@pytest.mark.parametrize("expires", ["0", "604801", "-1", "x", "", "99999999999999999999"])
def test_a_presigned_url_has_an_end(expires: str) -> None:
    query = f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={SCOPE}&X-Amz-Date={TIME}&X-Amz-Signature=0"
    request = Request(method="GET", path="/", query=f"{query}&X-Amz-SignedHeaders=host&X-Amz-Expires={expires}")
    with pytest.raises(BadSignature) as caught:
        read(request)
    assert caught.value.code == "IncompleteSignatureException"


@pytest.mark.parametrize("header", [None, "", "Bearer x", "AWS3 Credential=x"])
def test_what_is_not_signed_says_nothing(header: str | None) -> None:
    headers = (HOST, DATE) if header is None else (HOST, DATE, ("Authorization", header))
    assert read(Request(method="GET", path="/", query="X-Amz-Algorithm=other", headers=headers)) is None


# As aiohttp hands over what is no UTF-8.
sent_text = st.text(st.characters(codec="utf-8") | st.sampled_from("\udc80\udcff"), max_size=40)


def judged(request: Request) -> None:
    found = read(request)
    assert found is not None
    verify(request, found, SECRET, NOW)


@given(path=sent_text, query=sent_text, header=sent_text, names=sent_text, body=st.binary(max_size=20))
def test_nothing_that_is_sent_breaks_it(path: str, query: str, header: str, names: str, body: bytes) -> None:
    for authorization in (
        f"AWS4-HMAC-SHA256 {header}",
        f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders={names}, Signature={header}",
        f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=host;x-amz-date;{names}, Signature=0",
    ):
        headers = (HOST, DATE, ("X", header), ("Authorization", authorization))
        with pytest.raises(BadSignature):
            judged(Request(method="GET", path=path, query=query, headers=headers, body=body))


def test_the_canonical_request_is_the_suites() -> None:
    request, names, _ = VECTORS["get-vanilla"]
    empty = hashlib.sha256(b"").hexdigest()
    assert signatures.canonical_request(request, names.split(";"), empty) == (
        f"GET\n/\n\nhost:example.amazonaws.com\nx-amz-date:{TIME}\n\nhost;x-amz-date\n{empty}"
    )
