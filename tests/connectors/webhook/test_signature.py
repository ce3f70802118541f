from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from eventfn_webhook.signature import key_of, signed_headers


def test_the_signature_of_the_specification_s_own_example() -> None:
    # From the test suite of the specification's reference libraries.
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    headers = signed_headers("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body, key_of(secret))
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_what_is_signed_is_id_time_and_body() -> None:
    key = bytes(range(32))
    headers = signed_headers("r-1", 7, b"{}", key)
    expected = base64.b64encode(hmac.new(key, b"r-1.7.{}", hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"


def test_without_a_key_there_is_no_signature() -> None:
    assert set(signed_headers("r-1", 7, b"{}", None)) == {"webhook-id", "webhook-timestamp"}


@pytest.mark.parametrize(
    ("secret", "problem"),
    [
        ("", "expected a secret such as whsec_"),
        ("hunter2hunter2", "expected a secret such as whsec_"),
        ("whsec_hunter2!", "is not base64"),
        ("whsec_" + base64.b64encode(b"x" * 23).decode(), "it has 23"),
        ("whsec_" + base64.b64encode(b"x" * 65).decode(), "it has 65"),
    ],
)
def test_a_secret_that_is_none_is_refused_and_not_shown(secret: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refused:
        key_of(secret)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("size", [24, 32, 64])
def test_keys_of_every_allowed_length(size: int) -> None:
    assert len(key_of("whsec_" + base64.b64encode(b"x" * size).decode())) == size
