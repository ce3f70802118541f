"""Versions and aliases by their rules alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from eventfn.functions import versioning
from eventfn.functions.attaching import attached
from eventfn.functions.managed import (
    LATEST,
    AttachedLayer,
    Code,
    Configuration,
    EventInvoke,
    Layer,
    LayerVersion,
    ManagedFunction,
    Provisioned,
    Url,
)
from eventfn.functions.names import Named, named
from eventfn.functions.refusals import Refusal

ROLE = "arn:aws:iam::000000000000:role/r"
ACCOUNT, REGION = "000000000000", "us-east-1"


def ids() -> Callable[[], str]:
    count = itertools.count()
    return lambda: f"revision-{next(count)}"


def function(new_id: Callable[[], str] | None = None) -> ManagedFunction:
    made = Configuration(role=ROLE, runtime="python3.11", handler="a.b")
    latest = versioning.pending(LATEST, made, Code(sha256="0", size=1, blob="00"), 1, new_id or ids())
    return ManagedFunction(name="f", region=REGION, account=ACCOUNT, latest=latest)


def idle(function: ManagedFunction) -> ManagedFunction:
    """As it is once its task is done."""
    for version in function.all_versions():
        function = function.with_version(
            msgspec.structs.replace(version, state="Active", last_update_status="Successful")
        )
    return function


class Life(RuleBasedStateMachine):
    """Any order of updates, publishing, deleting versions, and aliases."""

    def __init__(self) -> None:
        super().__init__()
        self.new_id = ids()
        self.function = idle(function(self.new_id))
        self.published: dict[str, tuple[Configuration, Code]] = {}
        self.given: set[str] = set()  # numbers, ever
        self.revisions = {self.function.latest.revision_id}

    @rule(sha256=st.sampled_from("0123"), timeout=st.sampled_from((3, 5)))
    def update(self, sha256: str, timeout: int) -> None:
        made = msgspec.structs.replace(self.function.latest.configuration, timeout=timeout)
        code = Code(sha256=sha256, size=1, blob=sha256)
        changed = versioning.in_progress(self.function, made, code, 2, self.new_id)
        assert changed.latest.busy
        assert changed.latest.state == "Active"
        with pytest.raises(Refusal):
            versioning.check_idle(changed)
        self.function = idle(changed)

    @rule(description=st.sampled_from((None, "", "text")))
    def publish(self, description: str | None) -> None:
        latest = self.function.latest
        now = (latest.configuration, latest.code)
        last = self.published.get(str(max(map(int, self.given), default=0)))
        after, version = versioning.publish(self.function, description, 3, self.new_id)
        if last == now:
            assert after is self.function
            return
        assert version.number not in self.given
        assert version.state == "Pending"
        assert after.latest.revision_id != latest.revision_id
        assert version.description == description
        self.given.add(version.number)
        self.published[version.number] = now
        self.function = idle(after)

    @precondition(lambda self: self.published)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.published)))
        used = any(number in (each.function_version, *each.weights) for each in self.function.aliases.values())
        if used:
            with pytest.raises(Refusal, match="the following aliases reference it"):
                versioning.without_version(self.function, number)
            return
        self.function = versioning.without_version(self.function, number)
        del self.published[number]

    @rule(data=st.data(), name=st.sampled_from("ab"))
    def alias(self, data: st.DataObject, name: str) -> None:
        number = data.draw(st.sampled_from([LATEST, "1", "2", "99"]))
        other = data.draw(st.sampled_from([None, LATEST, "1", "2", "99"]))
        weights: dict[str, float | None] = {} if other is None else {other: 0.25}
        try:
            if name in self.function.aliases:
                changed = versioning.with_changed_alias(self.function, name, number, None, weights, None, self.new_id)
            else:
                changed = versioning.with_alias(self.function, name, number, "", weights, self.new_id)
        except Refusal:
            return
        self.function = changed

    @rule(name=st.sampled_from("ab"))
    def remove_alias(self, name: str) -> None:
        self.function = versioning.without_alias(self.function, name)
        assert name not in self.function.aliases

    @invariant()
    def versions_never_change(self) -> None:
        found = {each.number: (each.configuration, each.code) for each in self.function.versions.values()}
        assert found == self.published

    @invariant()
    def aliases_lead_to_versions_that_are_there(self) -> None:
        for alias in self.function.aliases.values():
            for number in (alias.function_version, *alias.weights):
                assert self.function.version(number) is not None
            assert not (alias.weights and LATEST in (alias.function_version, *alias.weights))

    @invariant()
    def it_is_the_same_after_a_restart(self) -> None:
        assert msgspec.json.decode(msgspec.json.encode(self.function), type=ManagedFunction) == self.function


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_what_hangs_on_a_version_or_an_alias_goes_with_it() -> None:
    with_one, _ = versioning.publish(idle(function()), None, 1, ids())
    changed = versioning.with_alias(with_one, "live", "1", "", {}, ids())
    hung: dict[str, Any] = {
        "event_invoke": {name: EventInvoke(last_modified_ms=1) for name in ("1", "live", LATEST)},
        "provisioned": {name: Provisioned(requested=1, last_modified_ms=1) for name in ("1", "live")},
        "urls": {"live": Url(id="u", auth_type="NONE", created_ms=1, modified_ms=1)},
    }
    changed = msgspec.structs.replace(changed, **hung)
    assert changed.provisioned_of("1") == 2
    without = versioning.without_version(versioning.without_alias(changed, "live"), "1")
    assert list(without.event_invoke) == [LATEST]
    assert without.provisioned == {}
    assert list(without.urls) == ["live"]  # it answers that it is forbidden


def test_code_in_a_folder_is_not_published() -> None:
    at_work = idle(function())
    folder = Code(sha256="f", size=0, folder="/work")
    at_work = at_work.with_version(msgspec.structs.replace(at_work.latest, code=folder))
    with pytest.raises(Refusal, match="upload it as a zip to publish it"):
        versioning.publish(at_work, None, 1, ids())


def test_a_function_that_failed_begins_anew() -> None:
    failed = idle(function())
    failed = failed.with_version(msgspec.structs.replace(failed.latest, state="Failed", state_reason="no"))
    latest = failed.latest
    again = versioning.in_progress(failed, latest.configuration, latest.code, 5, ids()).latest
    assert (again.state, again.state_reason, again.last_update_status) == ("Pending", versioning.CREATING, "InProgress")


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "qualifier", "expected"),
    [
        ("f", None, Named("f")),
        ("f", "live", Named("f", "live")),
        ("f:live", None, Named("f", "live")),
        ("f:live", "live", Named("f", "live")),
        ("f:$LATEST", None, Named("f", "$LATEST")),
        ("000000000000:function:f", None, Named("f")),
        ("function:f:3", None, Named("f", "3")),
        ("arn:aws:lambda:us-east-1:000000000000:function:f:3", None, Named("f", "3")),
        ("function", None, Named("function")),
        ("us-east-1:000000000000:function:f", None, Named("f")),
    ],
)
def test_names_of_functions(given: str, qualifier: str | None, expected: Named) -> None:
    assert named(given, qualifier, region=REGION, account=ACCOUNT) == expected


@pytest.mark.parametrize(
    ("given", "qualifier", "code", "message"),
    [
        (
            "f:1",
            "2",
            "InvalidParameterValueException",
            "The derived qualifier from the function name does not match the specified qualifier.",
        ),
        (
            "arn:aws:lambda:eu-west-1:000000000000:function:f",
            None,
            "ResourceNotFoundException",
            "Functions from 'eu-west-1' are not reachable in this region ('us-east-1')",
        ),
        ("111111111111:function:f", None, "AccessDeniedException", None),
    ],
)
def test_names_that_lead_nowhere(given: str, qualifier: str | None, code: str, message: str | None) -> None:
    with pytest.raises(Refusal) as refused:
        named(given, qualifier, region=REGION, account=ACCOUNT)
    assert (refused.value.code, refused.value.message) == (code, message)


@given(st.text(max_size=60), st.none() | st.text(max_size=20))
def test_any_text_is_a_name_or_is_refused(given: str, qualifier: str | None) -> None:
    try:
        found = named(given, qualifier, region=REGION, account=ACCOUNT)
    except Refusal:
        return
    assert found.name


# --- layers -----------------------------------------------------------------------------------------------------------


def test_layers_keep_their_order_and_bring_their_code() -> None:
    def layer(name: str) -> Layer | None:
        version = LayerVersion(number=1, code=Code(sha256=name, size=1, blob=name), created_ms=1)
        return Layer(name=name, region=REGION, account=ACCOUNT, versions={"1": version, "2": version})

    base = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer"
    found = attached([f"{base}:b:1", f"{base}:a:2"], layer, REGION)
    assert found == (
        AttachedLayer(arn=f"{base}:b:1", code=Code(sha256="b", size=1, blob="b")),
        AttachedLayer(arn=f"{base}:a:2", code=Code(sha256="a", size=1, blob="a")),
    )
    with pytest.raises(Refusal) as refused:
        attached([f"{base}:a:1", f"{base}:a:2"], layer, REGION)
    assert refused.value.message == (
        "Two different versions of the same layer are not allowed to be referenced in the same function. "
        f"{base}:a:1 and {base}:a:2 are versions of the same layer."
    )
