from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn_http.routes import BadPath, Match, Pattern, RouteTable

ROUTES = [
    "GET /",
    "GET /pets/dog/1",
    "GET /pets/dog/{id}",
    "POST /pets/dog/1",
    "PUT /pets/{kind}/{id}",
    "GET /pets/{kind}/1",
    "GET /pets/{rest+}",
    "ANY /{all+}",
    "HEAD /heads",
    "GET /heads",
    "DELETE /any",
    "ANY /any",
    "GET /a%20b",
]


def table(routes: list[str]) -> RouteTable[str]:
    made: RouteTable[str] = RouteTable()
    for route in routes:
        method, path = route.split(" ")
        assert made.add(method, Pattern(path), route) is None
    return made


@pytest.mark.parametrize(
    ("method", "path", "route", "parameters"),
    [
        ("GET", "/", "GET /", {}),
        ("GET", "/pets/dog/1", "GET /pets/dog/1", {}),
        ("HEAD", "/pets/dog/1", "GET /pets/dog/1", {}),
        ("GET", "/pets/dog/2", "GET /pets/dog/{id}", {"id": "2"}),
        ("GET", "/pets/cat/1", "GET /pets/{kind}/1", {"kind": "cat"}),
        ("GET", "/pets/cat/2", "GET /pets/{rest+}", {"rest": "cat/2"}),
        ("PUT", "/pets/dog/1", "PUT /pets/{kind}/{id}", {"kind": "dog", "id": "1"}),
        ("GET", "/pets/a%2Fb%20c", "GET /pets/{rest+}", {"rest": "a/b c"}),
        ("GET", "/pets/a//b", "GET /pets/{rest+}", {"rest": "a//b"}),
        ("GET", "/pets", "ANY /{all+}", {"all": "pets"}),
        ("GET", "/pets/", "ANY /{all+}", {"all": "pets/"}),
        ("DELETE", "/pets/dog/1", "ANY /{all+}", {"all": "pets/dog/1"}),
        ("HEAD", "/heads", "HEAD /heads", {}),
        ("DELETE", "/any", "DELETE /any", {}),
        ("GET", "/any", "ANY /any", {}),
        ("GET", "/a%20b", "GET /a%20b", {}),
    ],
)
def test_the_most_specific_route_answers(method: str, path: str, route: str, parameters: dict[str, str]) -> None:
    found = table(ROUTES).find(method, path)
    assert isinstance(found, Match)
    assert (found.target, found.parameters) == (route, parameters)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/items/1", ["GET", "HEAD", "PUT"]),
        ("POST", "/items", ["HEAD"]),
        ("GET", "/items/1/", []),
        ("GET", "/items/", []),
        ("GET", "/Items/1", []),
        ("GET", "/", []),
        ("GET", "", []),
    ],
)
def test_what_has_no_route_says_which_methods_there_are(method: str, path: str, allowed: list[str]) -> None:
    assert table(["GET /items/{id}", "PUT /items/1", "HEAD /items"]).find(method, path) == allowed


@pytest.mark.parametrize(
    ("first", "second"),
    [("/a", "/a"), ("/{id}", "/{name}"), ("/a/{x+}", "/a/{y+}")],
)
def test_clashes_are_found_and_the_first_stays(first: str, second: str) -> None:
    made: RouteTable[str] = RouteTable()
    assert made.add("GET", Pattern(first), "first") is None
    assert made.add("GET", Pattern(second), "second") == "first"
    assert made.add("ANY", Pattern(second), "second") is None
    found = made.find("GET", first.replace("{", "").replace("}", "").replace("+", ""))
    assert isinstance(found, Match)
    assert found.target == "first"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "starts with '/'"),
        ("hello", "starts with '/'"),
        ("/{path+}/more", "must stand last"),
        ("/{id}/{id}", "two parameters are called 'id'"),
        ("/a{id}", "whole segment"),
        ("/{}", "whole segment"),
        ("/{a b}", "whole segment"),
        ("/a b", "percent-encode"),
        ("/ä", "percent-encode"),
        ("/a?b", "percent-encode"),
        ("/a%2", "percent-encode"),
    ],
)
def test_bad_paths(path: str, says: str) -> None:
    with pytest.raises(BadPath, match=re.escape(says)):
        Pattern(path)


@given(
    values=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), min_size=3, max_size=3)
)
def test_parameters_come_back_as_they_were(values: list[str]) -> None:
    encoded = [quote(value, safe="") for value in values]
    found = table(["GET /x/{a}/{rest+}"]).find("GET", f"/x/{encoded[0]}/{encoded[1]}/{encoded[2]}")
    assert isinstance(found, Match)
    assert found.parameters == {"a": values[0], "rest": f"{values[1]}/{values[2]}"}


@given(path=st.text(alphabet="/ab{}+%", max_size=30).map("/".__add__))
def test_any_path_finds_something_or_nothing(path: str) -> None:
    found = table(["GET /a", "GET /{x}/b", "GET /a/{y+}"]).find("GET", path)
    assert found == [] or isinstance(found, Match)
