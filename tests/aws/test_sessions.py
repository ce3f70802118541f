import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.aws.sessions import Session, Sessions

PRINCIPAL = "arn:aws:sts::123456789012:assumed-role/worker/thumbnail"
SESSIONS = Sessions()
GIVEN = SESSIONS.mint(PRINCIPAL, "123456789012", 1000.5)


def test_a_node_knows_what_it_has_given() -> None:
    expected = Session(principal=PRINCIPAL, secret_access_key=GIVEN.secret_access_key, expires=1000.5)
    assert SESSIONS.recognise(GIVEN.access_key_id, GIVEN.session_token) == expected
    assert len(GIVEN.secret_access_key) == 40


def test_no_two_are_alike() -> None:
    other = SESSIONS.mint(PRINCIPAL, "123456789012", 1000.5)
    assert other.access_key_id != GIVEN.access_key_id
    assert other.secret_access_key != GIVEN.secret_access_key
    assert SESSIONS.recognise(GIVEN.access_key_id, other.session_token) is None


def test_another_node_does_not_know_them() -> None:
    assert Sessions().recognise(GIVEN.access_key_id, GIVEN.session_token) is None


@pytest.mark.parametrize("account", ["000000000000", "123456789012", "999999999999"])
def test_the_account_can_be_read_from_the_id_as_from_aws_own(account: str) -> None:
    given = SESSIONS.mint(PRINCIPAL, account, 0).access_key_id
    assert given.startswith("ASIA")
    assert len(given) == 20
    first = int.from_bytes(base64.b32decode(given[4:])[:6], "big")
    assert f"{(first & 0x7FFFFFFFFF80) >> 7:012d}" == account


@given(st.integers(0, len(GIVEN.session_token) - 1), st.characters(codec="ascii"))
def test_a_token_that_was_changed_is_nobodys(at: int, character: str) -> None:
    token = GIVEN.session_token[:at] + character + GIVEN.session_token[at + 1 :]
    if token != GIVEN.session_token:
        assert SESSIONS.recognise(GIVEN.access_key_id, token) is None


@given(st.text())
def test_what_is_no_token_is_nobodys(text: str) -> None:
    assert SESSIONS.recognise(GIVEN.access_key_id, text) is None


def test_no_representation_shows_a_secret() -> None:
    session = SESSIONS.recognise(GIVEN.access_key_id, GIVEN.session_token)
    assert GIVEN.secret_access_key not in repr(GIVEN) + repr(session)
    assert GIVEN.session_token not in repr(GIVEN) + repr(session)
