"""How concurrency is divided: what may be reserved and provisioned."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.functions import shares
from eventfn.functions.managed import Alias, Code, Configuration, ManagedFunction, Provisioned, Version
from eventfn.functions.refusals import Refusal


def function(reserved: int | None = None, **provisioned: int) -> ManagedFunction:
    version = Version(
        number="$LATEST",
        configuration=Configuration(role="r"),
        code=Code(sha256="", size=0),
        revision_id="",
        last_modified_ms=0,
    )
    return ManagedFunction(
        name="f",
        region="us-east-1",
        account="000000000000",
        latest=version,
        aliases={"live": Alias(name="live", function_version="1", revision_id="")},
        reserved=reserved,
        provisioned={
            key.lstrip("v"): Provisioned(requested=count, last_modified_ms=0) for key, count in provisioned.items()
        },
    )


def test_what_is_reserved_counts_and_not_what_is_provisioned_within() -> None:
    assert shares.unreserved(1000, [function(10, v1=5), function(None, v1=3, live=4), function()]) == 983


@pytest.mark.parametrize(("limit", "wanted", "fits"), [(1000, 900, True), (1000, 901, False), (50, 50, True)])
def test_a_node_keeps_a_hundred_for_all_if_it_has_more(limit: int, wanted: int, fits: bool) -> None:
    if fits:
        shares.refuse_reserved(function(), wanted, limit, [])
        return
    with pytest.raises(Refusal) as told:
        shares.refuse_reserved(function(), wanted, limit, [])
    assert not told.value.typed


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 600)), max_size=12))
def test_whatever_is_asked_for_the_account_is_never_overdrawn(asked: list[tuple[bool, int]]) -> None:
    limit = 1000
    functions: list[ManagedFunction] = []
    for reserve, wanted in asked:
        one = function()
        try:
            if reserve:
                shares.refuse_reserved(one, wanted, limit, functions)
                functions.append(function(wanted))
            else:
                shares.refuse_provisioned(one, "2", wanted, limit, functions)
                functions.append(function(None, v2=wanted))
        except Refusal:
            continue
    assert shares.unreserved(limit, functions) >= shares.LEAST_UNRESERVED


def test_a_version_is_provisioned_once() -> None:
    shares.refuse_provisioned(function(None, live=1), "live", 2, 1000, [])
    for taken, wanted in (({"live": 1}, "1"), ({"v1": 1}, "live")):
        with pytest.raises(Refusal) as told:
            shares.refuse_provisioned(function(None, **taken), wanted, 1, 1000, [])
        assert told.value.code == "ResourceConflictException"
