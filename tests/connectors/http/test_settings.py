from __future__ import annotations

import logging
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import eventfn_http
from eventfn.declaring.settings import SettingsReader
from eventfn.testing.clock import FakeClock
from eventfn.trigger import ListenContext
from eventfn_http import HttpSettings, HttpShared, HttpTrigger
from eventfn_http.access import Address

FOLDER = Path(eventfn_http.__file__).parent
CONTEXT = ListenContext("/project", "eu-west-1", "123456789012", FakeClock(), logging.getLogger("test"))


def check(routes: list[HttpSettings], **shared: Any) -> list[tuple[int, str, str]]:
    return HttpTrigger(HttpShared(**shared), CONTEXT).check(routes)


@pytest.mark.parametrize(
    ("text", "shown", "loopback"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080", True),
        ("127.8.8.8:0", "127.8.8.8:0", True),
        ("localhost:80", "127.0.0.1:80", True),
        ("[::1]:8080", "[::1]:8080", True),
        ("0.0.0.0:8080", "0.0.0.0:8080", False),
        ("[::]:65535", "[::]:65535", False),
        ("192.0.2.1:8080", "192.0.2.1:8080", False),
    ],
)
def test_addresses(text: str, shown: str, loopback: bool) -> None:
    address = Address.parse(text)
    assert (str(address), address.loopback) == (shown, loopback)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8080",
        ":8080",
        "127.0.0.1",
        "127.0.0.1:",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:٣",
        "::1:80",
        "[127.0.0.1]:80",
        "example.com:80",
        "http://127.0.0.1:80",
    ],
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="expected an address of this machine and a port"):
        HttpShared(listen=text)


def test_good_routes() -> None:
    routes = [
        HttpSettings(path="/hello", method="GET"),
        HttpSettings(path="/hello", method=["POST", "PUT"]),
        HttpSettings(path="/hello"),
        HttpSettings(path="/{name}", method="GET"),
    ]
    assert check(routes) == []


def test_clashes_and_bad_paths() -> None:
    routes = [
        HttpSettings(path="/items/{id}", method=["GET", "POST"]),
        HttpSettings(path="/items/{name}", method="GET"),
        HttpSettings(path="items"),
        HttpSettings(path="/none", method=[]),
    ]
    found = check(routes)
    assert [(index, key) for index, key, _ in found] == [(1, "path"), (2, "path"), (3, "method")]
    assert found[0][2] == "GET /items/{name} is taken: another route has GET /items/{id}"


@pytest.mark.parametrize(
    ("listen", "tokens", "auth", "mistake"),
    [
        ("127.0.0.1:80", [], None, None),
        ("127.0.0.1:80", [], "none", None),
        ("127.0.0.1:80", [], "token", 'auth = "token" needs tokens'),
        ("127.0.0.1:80", ["a"], "token", None),
        ("0.0.0.0:80", [], None, "can be reached from other machines"),
        ("0.0.0.0:80", [], "none", None),
        ("0.0.0.0:80", [], "token", 'auth = "token" needs tokens'),
        ("[::]:80", ["a"], None, None),
        ("0.0.0.0:80", ["a"], "token", None),
    ],
)
def test_nothing_is_open_by_accident(listen: str, tokens: list[str], auth: Any, mistake: str | None) -> None:
    found = check([HttpSettings(path="/", auth=auth)], listen=listen, tokens=tokens)
    if mistake is None:
        assert found == []
    else:
        ((index, key, message),) = found
        assert (index, key) == (0, "auth")
        assert mistake in message


@pytest.mark.parametrize("token", ["", " a", "a ", "a\nb"])
def test_tokens_that_no_header_can_carry(token: str) -> None:
    with pytest.raises(ValueError, match=re.escape("tokens: ")):
        HttpShared(tokens=[token])


def test_the_sample_is_what_the_readme_shows_and_what_the_connector_takes() -> None:
    text = (FOLDER / "sample.toml").read_text()
    assert text.strip() in (FOLDER / "README.md").read_text()
    sample = tomllib.loads(text)
    reader = SettingsReader({"WEBHOOK_TOKEN": "secret"})
    shared = reader.struct(HttpShared, sample["http"], ("http",))
    routes = []
    for function in sample["functions"].values():
        for table in function["triggers"]:
            assert table.pop("type") == "http"
            routes.append(reader.struct(HttpSettings, table, ("triggers",)))
    assert reader.findings == []
    assert shared is not None
    assert set(sample["http"]) == set(HttpShared.__struct_fields__), "the sample shows every option"
    assert HttpTrigger(shared, CONTEXT).check(routes) == []
