"""Rules and the router: who gets what, and that a message leaves its queue for nothing less than all targets."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from eventfn.destination import DESTINATION, ORIGIN, REASON
from eventfn.errors import EngineError, EngineFull, FunctionNotFound, PayloadTooLarge, Throttled
from eventfn.event import Apart, Outcome, ResponseStream
from eventfn.functions.model import Queue
from eventfn.plugins import Plugins
from eventfn.testing import FakeClock, lint, memory_queues
from eventfn.trigger import ListenContext, Mounted, QueueMessage, Queues
from eventfn_bus import BusTrigger
from eventfn_bus.router import LEASE
from eventfn_bus.settings import BusSettings, BusShared, RuleSettings, TargetSettings

HOUR = 3600.0


class Function:
    """A function, as a source sees it: what was submitted, each key once."""

    def __init__(self, name: str) -> None:
        self.function = name
        self.function_arn = f"arn:{name}"
        self.refusal: Exception | None = None
        self.events: dict[str, Any] = {}
        self.tries = 0

    def invoke(
        self,
        payload: bytes,
        request_id: str,
        done: Callable[[Outcome], None],
        apart: Apart | None = None,
        stream: ResponseStream | None = None,
    ) -> None:
        raise AssertionError("a bus waits for no answer")

    async def submit(self, payload: bytes, request_id: str, dedupe_key: str | None = None) -> str:
        self.tries += 1
        if self.refusal is not None:
            raise self.refusal
        assert dedupe_key is not None
        self.events[dedupe_key] = msgspec.json.decode(payload)
        return request_id

    @property
    def got(self) -> list[Any]:
        return list(self.events.values())


class Outbox:
    """The host's `deliver`: what is in the outbox, each id once."""

    def __init__(self) -> None:
        self.refusal: Exception | None = None
        self.records: dict[tuple[str, str], tuple[Any, dict[str, str]]] = {}

    async def deliver(self, uri: str, record_id: str, payload: bytes, attributes: dict[str, str]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.records[uri, record_id] = msgspec.json.decode(payload), attributes

    def at(self, uri: str) -> list[Any]:
        return [payload for (to, _), (payload, _) in self.records.items() if to == uri]


class Bench:
    """One node's buses, in memory."""

    def __init__(self, queues: Queues, clock: FakeClock, folder: Path) -> None:
        self.queues = queues
        self.clock = clock
        self.outbox = Outbox()
        self.folder = folder
        self.buses: list[BusTrigger] = []

    def context(self) -> ListenContext:
        log = logging.getLogger("eventfn.bus")
        return ListenContext(
            str(self.folder), "us-east-1", "000000000000", self.clock, log, self.queues, self.outbox.deliver
        )

    async def start(self, *mounted: Mounted, **rules: RuleSettings) -> BusTrigger:
        bus = BusTrigger(BusShared(rules=rules), self.context())
        self.buses.append(bus)
        bus.mount(mounted)
        assert await bus.open() is None
        return bus

    async def put(self, bus: str = "default", number: int = 1, **more: Any) -> str:
        event = {
            "version": "0",
            "id": f"e-{number}",
            "detail-type": "Order",
            "source": "shop",
            "time": "2026-01-01T00:00:00Z",
            "resources": [],
            "detail": {"number": number},
        }
        message = QueueMessage(msgspec.json.encode(event | more), dedupe_key=f"e-{number}")
        return (await self.queues.send(f"bus.{bus}", [message]))[0]

    async def wait(self, seconds: float) -> None:
        """In steps: what the clock sets off sleeps again only after more turns of the loop than one jump waits for."""
        for _ in range(20):
            await self.clock.advance(seconds / 20)

    async def empty(self, bus: str = "default") -> None:
        """Once nothing is on its way through the bus any more."""
        while await self.queues.depth(f"bus.{bus}"):
            await self.clock.advance(0.01)

    async def dead_letters(self) -> list[tuple[Any, dict[str, str]]]:
        messages = await self.queues.receive("dead-letters", 10)
        return [(msgspec.json.decode(message.body), message.attributes) for message in messages]


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    clock = FakeClock()
    async with memory_queues(clock, Queue(name="dead-letters")) as queues:
        bench = Bench(queues, clock, tmp_path)
        yield bench
        for bus in bench.buses:
            await bus.drain(5)
            await bus.close()


def rule(pattern: dict[str, Any], *targets: TargetSettings, **more: Any) -> RuleSettings:
    return RuleSettings(event_pattern=pattern, targets=list(targets), **more)


def to(uri: str, **input: Any) -> TargetSettings:  # noqa: A002
    return TargetSettings(uri=uri, **input)


def triggers(function: Function, *settings: BusSettings) -> list[Mounted]:
    return [Mounted(each, function, f"{function.function}/bus/{at}") for at, each in enumerate(settings)]


SHOP: dict[str, Any] = {"source": ["shop"]}


async def test_a_function_gets_what_its_pattern_matches(bench: Bench) -> None:
    function = Function("f")
    await bench.start(*triggers(function, BusSettings(event_pattern={"detail": {"number": [1, 3]}})))
    for number in range(4):
        await bench.put(number=number)
    await bench.empty()
    assert sorted(event["id"] for event in function.got) == ["e-1", "e-3"]


async def test_what_no_rule_matches_is_dropped(bench: Bench) -> None:
    await bench.start(r=rule({"source": ["other"]}, to("queue:x")))
    await bench.put()
    await bench.empty()
    assert not bench.outbox.records


async def test_every_rule_and_every_target_gets_its_own(bench: Bench) -> None:
    function = Function("f")
    transformer = {"input_paths_map": {"n": "$.detail.number"}, "input_template": '"<aws.events.rule-name>: <n>"'}
    await bench.start(
        *triggers(
            function,
            BusSettings(event_pattern=SHOP, input_path="$.detail"),
            BusSettings(event_pattern=SHOP, input={"fixed": True}),
        ),
        a=rule(
            SHOP,
            to("queue:one"),
            msgspec.convert({"uri": "queue:two", "input_transformer": transformer}, TargetSettings),
        ),
        b=rule(SHOP, to("queue:one", input_path="$.id")),
        off=rule(SHOP, to("queue:never"), enabled=False),
    )
    await bench.put()
    await bench.empty()
    assert sorted(function.got, key=str) == [{"fixed": True}, {"number": 1}]
    whole, part = bench.outbox.at("queue:one")
    assert (whole["id"], part) == ("e-1", "e-1")
    assert bench.outbox.at("queue:two") == ["a: 1"]
    assert not bench.outbox.at("queue:never")
    attributes = {attributes["RULE_ARN"] for _, attributes in bench.outbox.records.values()}
    assert attributes == {f"arn:aws:events:us-east-1:000000000000:rule/{name}" for name in "ab"}


async def test_buses_are_apart_and_hand_on_to_each_other(bench: Bench) -> None:
    await bench.start(
        here=rule(SHOP, to("queue:here")),
        there=rule(SHOP, to("queue:there", input_path="$.id"), to("bus:default"), bus="orders"),
    )
    await bench.put("orders", 7)
    await bench.empty("orders")
    assert bench.outbox.at("queue:there") == ["e-7"]
    assert not bench.outbox.at("queue:here")
    assert [event["id"] for event in bench.outbox.at("bus:default")] == ["e-7"]
    arns = {attributes["RULE_ARN"] for _, attributes in bench.outbox.records.values()}
    assert arns == {"arn:aws:events:us-east-1:000000000000:rule/orders/there"}


async def test_a_functions_record_is_routed_as_lambdas_event(bench: Bench) -> None:
    function = Function("f")
    pattern = {"source": ["lambda"], "detail-type": [{"suffix": "- Failure"}]}
    await bench.start(*triggers(function, BusSettings(event_pattern=pattern)))
    record = {"version": "1.0", "requestContext": {"functionArn": "arn:f", "condition": "RetriesExhausted"}}
    await bench.queues.send("bus.default", [QueueMessage(msgspec.json.encode(record), dedupe_key="r-1")])
    await bench.empty()
    (event,) = function.got
    assert event["detail"] == record
    assert event["resources"] == ["arn:aws:events:us-east-1:000000000000:event-bus/default", "arn:f"]


# --- nothing is lost, nothing is given twice --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal", [Throttled("ReservedFunctionConcurrentInvocationLimitExceeded"), EngineFull("disk")]
)
async def test_an_event_stays_until_the_last_target_has_it(bench: Bench, refusal: Exception) -> None:
    slow, quick = Function("slow"), Function("quick")
    slow.refusal = refusal
    await bench.start(
        *triggers(slow, BusSettings(event_pattern=SHOP)),
        *triggers(quick, BusSettings(event_pattern=SHOP)),
        r=rule(SHOP, to("queue:x")),
    )
    await bench.put(number=1)
    await bench.wait(HOUR)
    assert slow.tries > 10
    assert len(slow.got) == 0
    assert len(quick.got) == len(bench.outbox.records) == 1
    await bench.put(number=2)  # one that waits holds up no other
    await bench.clock.advance(0.1)
    assert len(quick.got) == 2
    slow.refusal = None
    await bench.wait(120)
    await bench.empty()
    assert len(slow.got) == len(quick.got) == len(bench.outbox.records) == 2
    assert not await bench.dead_letters()


async def test_a_full_outbox_is_tried_again(bench: Bench) -> None:
    bench.outbox.refusal = EngineFull("no space left")
    await bench.start(r=rule(SHOP, to("queue:x")))
    await bench.put()
    await bench.wait(60)
    assert await bench.queues.depth("bus.default") == 1
    bench.outbox.refusal = None
    await bench.wait(120)
    await bench.empty()
    assert len(bench.outbox.records) == 1


async def test_an_event_whose_router_died_is_routed_by_the_next_and_targets_take_it_once(bench: Bench) -> None:
    function = Function("f")
    mounted = triggers(function, BusSettings(event_pattern=SHOP))
    message = await bench.put()
    (claimed,) = await bench.queues.receive("bus.default", 1, LEASE)  # the one that died had routed it already
    await function.submit(claimed.body, "", f"{message}/f-bus-0/0")
    await bench.start(*mounted)
    await bench.clock.advance(LEASE - 1)
    assert await bench.queues.depth("bus.default") == 1
    await bench.clock.advance(2)
    await bench.empty()
    assert function.tries == 2
    assert len(function.got) == 1


@pytest.mark.parametrize("refusal", [PayloadTooLarge(2_000_000, 1_048_576), FunctionNotFound("f")])
async def test_what_a_function_can_never_take_goes_to_the_dead_letters(bench: Bench, refusal: Exception) -> None:
    function = Function("f")
    function.refusal = refusal
    await bench.start(*triggers(function, BusSettings(event_pattern=SHOP, input_path="$.detail", rule="mine")))
    await bench.put()
    await bench.empty()
    assert function.tries == 1
    ((body, attributes),) = await bench.dead_letters()
    assert body == {"number": 1}
    assert attributes[ORIGIN] == "fn:f"
    assert attributes[REASON] == attributes["ERROR_MESSAGE"] == str(refusal)
    assert attributes["RULE_ARN"] == "arn:aws:events:us-east-1:000000000000:rule/mine"


async def test_what_a_target_took_for_a_day_not_goes_to_the_dead_letters(bench: Bench) -> None:
    function = Function("f")
    function.refusal = Throttled("CallerRateLimitExceeded")
    bench.outbox.refusal = EngineError("broken")
    await bench.start(*triggers(function, BusSettings(event_pattern=SHOP)), r=rule(SHOP, to("queue:x")))
    await bench.put()
    await bench.wait(25 * HOUR)
    await bench.wait(60)
    await bench.empty()
    dead = {
        attributes.get(DESTINATION) or attributes[ORIGIN]: attributes for _, attributes in await bench.dead_letters()
    }
    assert set(dead) == {"fn:f", "queue:x"}
    assert dead["fn:f"][REASON] == "it took no event for a day: CallerRateLimitExceeded"


async def test_what_can_never_become_an_event_goes_to_the_dead_letters(bench: Bench) -> None:
    await bench.start(r=rule(SHOP, to("queue:x")))
    await bench.queues.send("bus.default", [QueueMessage(b"[1]")])
    await bench.put()
    await bench.empty()
    assert len(bench.outbox.records) == 1
    ((body, attributes),) = await bench.dead_letters()
    assert (body, attributes[ORIGIN]) == ([1], "queue:bus.default")


# --- its life ---------------------------------------------------------------------------------------------------------


async def test_a_reload_replaces_rules_and_buses(bench: Bench) -> None:
    function = Function("f")
    bus = await bench.start(*triggers(function, BusSettings(event_pattern=SHOP)))
    await bench.put(number=1)
    await bench.empty()
    bus.mount(triggers(function, BusSettings(event_pattern=SHOP, bus="orders", input_path="$.id")))
    await bench.put(number=2)  # the default bus has no rules any more
    await bench.put("orders", number=3)
    await bench.empty()
    await bench.empty("orders")
    assert function.got[1:] == ["e-3"]
    bus.mount([])
    await bench.put("orders", number=4)
    await bench.wait(60)
    assert await bench.queues.depth("bus.orders") == 1  # a bus that nothing names: its events wait


async def test_a_drain_leaves_the_rest_in_the_queue(bench: Bench) -> None:
    bus = await bench.start(r=rule(SHOP, to("queue:x")))
    await bus.drain(5)
    await bench.put()
    await bench.wait(60)
    assert await bench.queues.depth("bus.default") == 1
    await bus.close()
    await bus.close()


async def test_it_closes_without_a_start(bench: Bench) -> None:
    bus = BusTrigger(BusShared(), bench.context())
    await bus.drain(1)
    await bus.close()


async def test_a_bug_stops_no_router(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver, broken = bench.outbox.deliver, True

    async def sometimes(*given: Any) -> None:
        if broken:
            raise RuntimeError("a bug")
        await deliver(*given)

    monkeypatch.setattr(bench.outbox, "deliver", sometimes)
    await bench.start(r=rule(SHOP, to("queue:x")))
    await bench.put()
    await bench.wait(30)
    broken = False
    await bench.wait(30)
    await bench.empty()
    assert len(bench.outbox.records) == 1


# --- what the file may say --------------------------------------------------------------------------------------------


def test_the_host_takes_it_and_its_sample_loads() -> None:
    assert Plugins({"bus": BusTrigger}).trigger("bus") is BusTrigger
    lint.check_keys(BusSettings)
    lint.check_keys(BusShared)
    tables = lint.check_sample(BusTrigger)
    shared = lint.load_settings(BusShared, tables["bus"], {})
    assert shared.rules["large-orders"].targets[1].input_transformer is not None
    (table,) = tables["functions"]["invoice"]["triggers"]
    lint.load_settings(BusSettings, table, {}, ["type"])


def test_a_rules_name_is_taken_once_on_a_bus(bench: Bench) -> None:
    shared = BusShared(rules={"a": rule(SHOP, to("queue:x"))})
    named = [
        ("a", "default"),
        ("a", "orders"),
        ("b", "default"),
        ("b", "default"),
        (None, "default"),
        (None, "default"),
    ]
    settings = [BusSettings(event_pattern=SHOP, rule=name, bus=bus) for name, bus in named]
    found = BusTrigger(shared, bench.context()).check(settings)
    assert found == [
        (0, "rule", "bus default has a rule called a already"),
        (3, "rule", "bus default has a rule called b already"),
    ]


def load(kind: type[msgspec.Struct], table: dict[str, Any]) -> None:
    lint.load_settings(kind, table, {})


WRONG: Sequence[tuple[type[msgspec.Struct], dict[str, Any], str]] = [
    (BusSettings, {}, "event_pattern: is missing"),
    (BusSettings, {"event_pattern": {"a": []}}, "event_pattern: is not valid. Reason: Empty arrays are not allowed"),
    (BusSettings, {"event_pattern": SHOP, "bus": "a b"}, "bus: expected the name of a bus"),
    (BusSettings, {"event_pattern": SHOP, "rule": "a/b"}, "rule: expected the name of a rule"),
    (BusSettings, {"event_pattern": SHOP, "input": 1, "input_path": "$.a"}, "expected one of input, input_path"),
    (BusSettings, {"event_pattern": SHOP, "input_path": "a"}, "input_path: expected a path such as"),
    (
        BusSettings,
        {"event_pattern": SHOP, "input_transformer": {"input_template": "hello"}},
        "input_transformer.input_template: it is not JSON",
    ),
    (
        BusSettings,
        {"event_pattern": SHOP, "input_transformer": {"input_template": '"<a>"', "input_paths_map": {"a": "b"}}},
        "input_transformer.input_paths_map: a: expected a path such as",
    ),
    (BusShared, {"rules": {"a": {"event_pattern": SHOP}}}, "rules.a.targets: is missing"),
    (BusShared, {"rules": {"a": {"event_pattern": SHOP, "targets": []}}}, "rules.a.targets: expected at least one"),
    (
        BusShared,
        {"rules": {"a": {"bus": "b", "event_pattern": SHOP, "targets": [{"uri": "queue:x"}, {"uri": "bus:b"}]}}},
        "rules.a.targets: bus:b would hand its own events to itself, again and again",
    ),
    (BusShared, {"rules": {"a b": {"event_pattern": SHOP, "targets": [{"uri": "queue:x"}]}}}, "rules: expected the"),
    (BusShared, {"listen": "localhost"}, "listen: expected an address of this machine and a port"),
    (BusShared, {"listen": "0.0.0.0:80"}, "listen: 0.0.0.0:80 can be reached from other machines: set tokens"),
    (BusShared, {"listen": "[::]:80"}, "listen: [::]:80 can be reached from other machines: set tokens"),
    (BusShared, {"listen": "[::1]:80", "tokens": [" x"]}, "tokens: each is expected to be text without spaces"),
    (BusShared, {"tokens": ["x"]}, "tokens: are for PutEvents, which needs a listen address"),
]


@pytest.mark.parametrize(("kind", "table", "message"), WRONG)
def test_settings_that_are_refused(kind: type[msgspec.Struct], table: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError) as refused:
        load(kind, table)
    assert message in str(refused.value)


def test_a_listener_off_loopback_needs_tokens_and_takes_them() -> None:
    load(BusShared, {"listen": "0.0.0.0:80", "tokens": ["secret"]})
    load(BusShared, {"listen": "127.0.0.1:0"})
