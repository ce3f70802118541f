import pytest

from eventfn.errors import FunctionNotFound
from eventfn.functions.model import Function
from eventfn.functions.registry import Changes, Registry
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
    assert registry.replace({"a": prepared("a"), "b": prepared("b")}) == Changes(("a", "b"), (), ())
    changes = registry.replace({"c": prepared("c"), "b": prepared("b", "2"), "d": prepared("d")})
    assert changes == Changes(added=("c", "d"), changed=("b",), removed=("a",))
    assert registry["b"].version == "2"
    assert list(registry) == ["c", "b", "d"]
    assert "a" not in registry
    assert len(registry) == 3


def test_the_same_version_is_no_change_but_what_is_declared_of_it_is_the_latest() -> None:
    registry = Registry()
    registry.replace({"a": prepared("a")})
    latest = prepared("a")
    assert registry.replace({"a": latest}) == Changes((), (), ())
    assert registry.require("a") is latest


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("thumbnial", "Function not found: thumbnial (did you mean 'thumbnail'?)"),
        ("zzz", "Function not found: zzz"),
    ],
)
def test_a_name_that_is_not_declared(name: str, message: str) -> None:
    registry = Registry()
    registry.replace({"thumbnail": prepared("thumbnail")})
    with pytest.raises(FunctionNotFound) as raised:
        registry.require(name)
    assert str(raised.value) == message
