import msgspec
import pytest

from eventfn.errors import FunctionNotFound, FunctionNotReady
from eventfn.functions.model import Function
from eventfn.functions.registry import Changes, NotReady, Registry, Split, Target, target
from eventfn.workers.contract import Prepared


def prepared(name: str, version: str = "1") -> Prepared:
    return Prepared(
        function=Function(name=name, handler="a.b", code="/code"),
        arn=f"arn:{name}",
        version=version,
        task_root="/code",
        interpreter="/python",
        runtime="python3.11",
    )


def test_what_a_reload_changes() -> None:
    registry = Registry()
    assert registry.declare({"a": prepared("a"), "b": prepared("b")}) == Changes(("a", "b"), (), ())
    changes = registry.declare({"c": prepared("c"), "b": prepared("b", "2"), "d": prepared("d")})
    assert changes == Changes(added=("c", "d"), changed=("b",), removed=("a",))
    assert registry.require("b").prepared.version == "2"
    assert registry.names() == ["c", "b", "d"]
    assert "a" not in registry
    assert "a:$LATEST" not in registry


def test_the_same_version_is_no_change_but_what_is_declared_of_it_is_the_latest() -> None:
    registry = Registry()
    registry.declare({"a": prepared("a")})
    latest = prepared("a")
    assert registry.declare({"a": latest}) == Changes((), (), ())
    assert registry.require("a").prepared is latest


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("thumbnial", "Function not found: thumbnial (did you mean 'thumbnail'?)"),
        ("zzz", "Function not found: zzz"),
    ],
)
def test_a_name_that_is_not_declared(name: str, message: str) -> None:
    registry = Registry()
    registry.declare({"thumbnail": prepared("thumbnail")})
    with pytest.raises(FunctionNotFound) as raised:
        registry.require(name)
    assert str(raised.value) == message


# --- qualifiers -------------------------------------------------------------------------------------------------------


def published(name: str, number: str) -> Prepared:
    return msgspec.structs.replace(prepared(name), number=number)


def lead(name: str, number: str, qualifier: str | None = None) -> Target:
    found = published(name, number)
    return target(found.function, f"{found.arn}:{qualifier}" if qualifier else found.arn, found)


def test_a_function_has_its_qualifiers() -> None:
    registry = Registry()
    registry.declare({"a": prepared("a")})
    registry.manage("f", {"f": lead("f", "$LATEST"), "f:1": lead("f", "1", "1"), "f:live": lead("f", "1", "live")})
    assert registry.names() == ["a", "f"]
    assert registry.keys("f") == ["f", "f:1"]
    found = registry.require("f:live")
    assert (found.version, found.key, found.arn, found.name) == ("1", "f:1", "arn:f:live", "f")
    assert registry.require("a:$LATEST").key == "a"
    with pytest.raises(FunctionNotFound):
        registry.require("f:2")

    registry.manage("f", {"f": lead("f", "$LATEST")})
    assert "f:live" not in registry
    registry.manage("f", {})
    assert registry.names() == ["a"]
    assert "f" not in registry


@pytest.mark.parametrize(("chance", "version"), [(0.0, "2"), (0.249, "2"), (0.25, "1"), (0.999, "1")])
def test_an_alias_with_weights_shares_its_invocations(chance: float, version: str) -> None:
    registry = Registry(lambda: chance)
    registry.manage("f", {"f:live": Split(lead("f", "1", "live"), lead("f", "2", "live"), 0.25)})
    assert registry.require("f:live").version == version
    found = registry.get("f:live")
    assert found is not None
    assert found.version == version


@pytest.mark.parametrize(("weight", "chance", "version"), [(0.0, 0.0, "1"), (1.0, 0.999999, "2")])
def test_none_and_all_of_the_weight(weight: float, chance: float, version: str) -> None:
    registry = Registry(lambda: chance)
    registry.manage("f", {"f:live": Split(lead("f", "1", "live"), lead("f", "2", "live"), weight)})
    assert registry.require("f:live").version == version


def test_what_is_not_ready_is_there_and_cannot_be_invoked() -> None:
    registry = Registry()
    registry.manage("f", {"f": NotReady("Pending")})
    assert "f" in registry
    assert registry.get("f") is None
    with pytest.raises(FunctionNotReady, match="following state: Pending"):
        registry.require("f")
