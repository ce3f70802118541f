"""Chains of invocations, counted in the trace header."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventfn.rules.recursion import MOST, furthest, mark, rooted, stepped, unrooted

ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
A, B = mark(ARN + "a"), mark(ARN + "b")


def test_the_first_invocation_begins_a_chain_and_each_step_adds_one() -> None:
    trace = first = rooted(unrooted(ARN + "a"), "0f8fad5b-d9cb-469f-a165-70867728950e", 1_700_000_000_999)
    assert trace.startswith("Root=1-6553f100-d9cb469fa16570867728950e;Parent=")
    assert trace.endswith(f";Sampled=0;Lineage={A}:1")
    for count in range(2, MOST + 3):
        trace, times = stepped(trace, A)
        assert times == count
    assert trace.endswith(f"Lineage={A}:{MOST + 2}")
    assert trace.split(";")[:3] == first.split(";")[:3]


def test_each_chain_has_a_root_of_its_own() -> None:
    ids = ["0f8fad5b-d9cb-469f-a165-70867728950e", "0f8fad5b-d9cb-469f-a165-70867728950f", "mine", "mine too", ""]
    roots = {rooted(unrooted(ARN + "a"), each, 1_700_000_000_000).partition(";")[0] for each in ids}
    assert len(roots) == len(ids)
    assert all(re.fullmatch("Root=1-[0-9a-f]{8}-[0-9a-f]{24}", root) for root in roots)


def test_two_functions_that_invoke_each_other_are_counted_apart() -> None:
    trace = rooted(unrooted(ARN + "a"), "mine", 0)
    for count in range(1, 5):
        trace, times = stepped(trace, B)
        assert times == count
        trace, times = stepped(trace, A)
        assert times == count + 1


@pytest.mark.parametrize(
    ("trace", "count"),
    [
        ("", 1),
        ("Root=1-a", 1),
        (f"Root=1-a;Lineage={A}:7", 8),
        (f"Lineage={B}:2|{A}:7;Sampled=1", 8),
        (f"Lineage={B}:2%7C{A}:7", 8),  # as botocore sends it
        (f"Lineage={A}:x", 1),
        (f"Lineage={A}:-4", 1),
        (f"Lineage={A}:999999999999999999999", 1),
        ("Lineage=", 1),
        ("Lineage=1:2:3:4", 1),
    ],
)
def test_what_a_header_says(trace: str, count: int) -> None:
    assert stepped(trace, A)[1] == count


@given(st.text(max_size=300))
def test_whatever_a_caller_sends_it_stays_small_and_counts_on(trace: str) -> None:
    first, count = stepped(trace, A)
    assert stepped(first, A)[1] == count + 1


def test_a_lineage_of_thousands_of_functions_is_cut() -> None:
    trace = "Lineage=" + "|".join(f"{n:08x}:1" for n in range(5000))
    first, count = stepped(trace, A)
    assert count == 1
    assert len(first) < 400
    assert stepped(first, A)[1] == 2


def test_of_several_records_the_one_counts_for_which_a_function_ran_most() -> None:
    fresh, far = "Root=1-a", f"Root=1-b;Lineage={B}:1|{A}:7"
    assert furthest([fresh]) == fresh
    assert furthest([fresh, f"Lineage={A}:6", far, ""]) == far
