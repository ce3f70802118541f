"""The conformance suite for destinations: subclass it, say how to see what arrived, and run pytest.

class TestMyDestination(DestinationSuite):
    destination = MyDestination
    scheme = "my"
    target = "orders"                               # the URI after `my:`
    nonsense = ("", "two words")                    # targets that check() must refuse

    async def received(self):
        return [...]                                # the payloads that are there, in order, decoded
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import pytest_asyncio

from eventfn.bus import names
from eventfn.bus.destinations import BATCH, Deliverer
from eventfn.destination import Delivery, Destination, DestinationContext, OutgoingRecord, Rejected, RetryAfter, Written
from eventfn.engine.contract import Send
from eventfn.engine.memory import MemoryEngine
from eventfn.errors import ConnectorError
from eventfn.observe.metrics import Metrics
from eventfn.plugins import Plugins
from eventfn.testing import lint
from eventfn.testing.clock import FakeClock
from eventfn.testing.closing import close
from eventfn.testing.contexts import destination_context
from eventfn.testing.hosted import tick
from eventfn.testing.waiting import eventually


class DestinationSuite:
    pytestmark = pytest.mark.asyncio

    destination: ClassVar[type[Any]]
    scheme: ClassVar[str]  # the entry point's name
    target: str  # a good target; a fixture may set it
    nonsense: ClassVar[Sequence[str]]
    has_sample: ClassVar[bool] = True  # sample.toml and README.md stand beside the package
    variables: ClassVar[Mapping[str, str]] = {}  # of the environment, where sample.toml says "${NAME}"
    largest: ClassVar[int] = 1024 * 1024  # bytes of the biggest payload that it must take
    too_large: ClassVar[int | None] = None  # bytes of one that can never be written; None: there is no such size
    elsewhere: str | None = None  # a second good target, of which `received` sees nothing
    patience: ClassVar[float] = 30.0  # real seconds without a delivery under the real host: it has failed

    folder: Path  # the project's folder, new for every test
    clock: FakeClock

    # --- what a subclass says ----------------------------------------------------------------------------------------

    def settings(self) -> Any:
        """An instance of the destination's Settings."""
        return self.destination.Settings()

    async def received(self) -> list[Any]:
        """The payloads that the other side holds now, in the order in which it got them, decoded from JSON."""
        raise NotImplementedError

    async def refuse(self) -> None:
        """Takes the other side down. Not overridden: it cannot be down."""
        pytest.skip("the other side cannot be down")

    async def accept(self) -> None:
        """Brings the other side up again, with what it held."""

    @functools.cached_property
    def context(self) -> DestinationContext:
        return self.make_context()

    def make_context(self) -> DestinationContext:
        return destination_context(self.folder, clock=self.clock)

    # --- the host, played by the suite -------------------------------------------------------------------------------

    @pytest_asyncio.fixture(autouse=True)
    async def host(self, tmp_path: Path) -> AsyncIterator[None]:
        """A fixture of a subclass that needs the folder or the clock asks for this one."""
        self.folder = tmp_path
        self.clock = FakeClock()
        self._made: list[Destination] = []
        yield
        for destination in self._made:
            await close(destination, 1)

    def make(self) -> Destination:
        destination: Destination = self.destination(self.target, self.settings(), self.context)
        self._made.append(destination)
        return destination

    async def opened(self) -> Destination:
        destination = self.make()
        await destination.connect()
        return destination

    def record(self, number: int, **more: Any) -> OutgoingRecord:
        """A record as the host's outbox holds it, with a payload of its own for each number."""
        payload = msgspec.json.encode({"version": "1.0", "responsePayload": {"number": number, **more}})
        return OutgoingRecord(id=f"record-{number}", payload=payload, attributes={"eventfn.origin": "fn:hello"})

    async def write(self, destination: Destination, *records: OutgoingRecord) -> None:
        """Writes, and fails the test unless every record is there."""
        answers = await destination.write(records)
        assert answers == [Written()] * len(records)

    async def numbers(self) -> list[int]:
        return [payload["responsePayload"]["number"] for payload in await self.received()]

    # --- what it says about itself -----------------------------------------------------------------------------------

    async def test_the_host_takes_it(self) -> None:
        assert Plugins(destinations={self.scheme: self.destination}).destination(self.scheme) is self.destination
        for verb in ("connect", "write", "close"):
            assert inspect.iscoroutinefunction(getattr(self.destination, verb)), f"{verb} must be `async def`"

    async def test_its_settings_can_stand_in_eventfn_toml(self) -> None:
        lint.check_keys(self.destination.Settings)
        assert isinstance(self.settings(), self.destination.Settings)

    async def test_its_readme_names_every_key(self) -> None:
        if not self.has_sample:
            pytest.skip("it is no package of its own")
        lint.check_readme(self.destination, self.destination.Settings)

    async def test_its_sample_loads(self) -> None:
        if not self.has_sample:
            pytest.skip("it is no package of its own")
        tables = lint.check_sample(self.destination)
        table = tables.get("destinations", {}).get(self.scheme, {})
        settings = lint.load_settings(self.destination.Settings, table, self.variables)
        uris = [
            uri
            for function in tables.get("functions", {}).values()
            for key in ("on_success", "on_failure", "dead_letter_queue")
            if (uri := function.get(key, "")).startswith(f"{self.scheme}:")
        ]
        assert uris, f"sample.toml shows no {self.scheme}: URI"
        for uri in uris:
            assert self.destination.check(uri.partition(":")[2], settings) is None

    async def test_it_checks_its_target_and_touches_nothing(self) -> None:
        settings = self.settings()
        with lint.no_io():
            assert self.destination.check(self.target, settings) is None
            refusals = {target: self.destination.check(target, settings) for target in self.nonsense}
        assert refusals, "name some nonsense"
        for target, refusal in refusals.items():
            assert refusal, f"check() takes {target!r}"

    async def test_making_one_touches_nothing(self) -> None:
        settings = self.settings()
        with lint.no_io():
            self.destination(self.target, settings, self.context)

    # --- its life ----------------------------------------------------------------------------------------------------

    async def test_it_connects_and_closes(self) -> None:
        destination = await self.opened()
        await close(destination)

    async def test_it_closes_after_half_a_start_and_twice(self) -> None:
        destination = self.make()
        await close(destination)
        await close(destination)

    async def test_it_can_be_connected_again(self) -> None:
        destination = await self.opened()
        await destination.connect()
        await self.write(destination, self.record(1))
        assert await self.numbers() == [1]

    async def test_it_closes_in_time_while_the_other_side_is_down(self) -> None:
        destination = await self.opened()
        await self.write(destination, self.record(1))
        await self.refuse()
        began = time.monotonic()
        await asyncio.wait_for(destination.close(2), 5)
        assert time.monotonic() - began < 3, "close(2) took longer than its deadline"
        await self.accept()

    # --- how it writes -----------------------------------------------------------------------------------------------

    async def test_a_record_arrives_as_it_is(self) -> None:
        record = self.record(1)
        await self.write(await self.opened(), record)
        assert await self.received() == [msgspec.json.decode(record.payload)]

    async def test_many_records_arrive_in_their_order(self) -> None:
        destination = await self.opened()
        await self.write(destination, *(self.record(number) for number in range(20)))
        await self.write(destination, *(self.record(number) for number in range(20, 25)))
        assert await self.numbers() == list(range(25))

    async def test_as_many_as_the_host_gives_at_once_arrive(self) -> None:
        destination = await self.opened()
        await self.write(destination, *(self.record(number) for number in range(BATCH)))
        assert await self.numbers() == list(range(BATCH))

    async def test_what_is_for_one_target_is_not_for_another(self) -> None:
        if self.elsewhere is None:
            pytest.skip("no second target: set `elsewhere`")
        other: Destination = self.destination(self.elsewhere, self.settings(), self.context)
        self._made.append(other)
        await other.connect()
        await self.write(await self.opened(), self.record(1))
        await self.write(other, self.record(2))
        assert await self.numbers() == [1]

    async def test_one_that_can_never_be_written_is_rejected_alone(self) -> None:
        if self.too_large is None:
            pytest.skip("no payload is too large")
        hopeless = self.record(2, filling="x" * self.too_large)
        answers = await (await self.opened()).write([self.record(1), hopeless, self.record(3)])
        assert answers[0] == answers[2] == Written()
        assert isinstance(answers[1], Rejected)
        assert answers[1].reason
        assert await self.numbers() == [1, 3]

    async def test_a_write_that_was_cancelled_can_be_made_again(self) -> None:
        destination = await self.opened()
        records = [self.record(number) for number in range(3)]
        for turns in range(8):
            writing = asyncio.ensure_future(destination.write(records))
            for _ in range(turns):
                await asyncio.sleep(0)
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
        try:
            await self.write(destination, *records)
        except ConnectorError:  # a cancel in mid-request may cost the connection
            await destination.connect()
            await self.write(destination, *records)
        found = await self.numbers()
        assert set(found) == {0, 1, 2}
        if self.destination.idempotent:
            assert sorted(found) == [0, 1, 2], f"written more than once: {found}"

    async def test_nothing_to_write_is_nothing_written(self) -> None:
        assert await (await self.opened()).write([]) == []
        assert await self.received() == []

    async def test_it_writes_on_after_a_restart(self) -> None:
        first = await self.opened()
        await self.write(first, self.record(1))
        await close(first)
        await self.write(await self.opened(), self.record(2))
        assert await self.numbers() == [1, 2]

    async def test_a_big_record_arrives_whole(self) -> None:
        room = self.largest - len(self.record(1, filling="").payload)
        record = self.record(1, filling="x" * room)
        assert len(record.payload) == self.largest
        await self.write(await self.opened(), record)
        assert await self.received() == [msgspec.json.decode(record.payload)]

    async def test_text_of_every_script_arrives(self) -> None:
        text = 'Zoë 東京 \U0001f600 \u2028 "quoted" \\ \n line'
        await self.write(await self.opened(), self.record(1, text=text))
        (payload,) = await self.received()
        assert payload["responsePayload"]["text"] == text

    async def test_its_word_on_idempotence_is_true(self) -> None:
        first = await self.opened()
        await self.write(first, self.record(1), self.record(2))
        await self.write(first, self.record(1))
        await close(first)
        again = msgspec.structs.replace(self.record(2), attempt=2)
        await self.write(await self.opened(), again, self.record(3))
        if self.destination.idempotent:
            assert await self.numbers() == [1, 2, 3]
        else:
            assert set(await self.numbers()) == {1, 2, 3}

    async def test_while_the_other_side_is_down_it_says_so_and_works_again_after(self) -> None:
        destination = await self.opened()
        await self.write(destination, self.record(1))
        await self.refuse()
        answers = await self._try(destination, [self.record(2), self.record(3)])
        assert len(answers) == 2
        assert not any(isinstance(answer, Rejected) for answer in answers), "an outage is no reason to give up"
        assert all(isinstance(answer, RetryAfter) for answer in answers), f"nothing was written: {answers}"
        await self.accept()
        await destination.connect()
        await self.write(destination, self.record(2), self.record(3))
        assert await self.numbers() == [1, 2, 3]

    async def test_it_starts_while_the_other_side_is_down(self) -> None:
        destination = self.make()
        await self.refuse()
        try:
            await destination.connect()
        except ConnectorError:
            await self.accept()
            await destination.connect()
        else:
            answers = await self._try(destination, [self.record(0)])
            assert all(isinstance(answer, RetryAfter) for answer in answers), f"nothing was written: {answers}"
            await self.accept()
        await self.write(destination, self.record(1))
        assert await self.numbers() == [1]

    # --- under the host that a node has ------------------------------------------------------------------------------

    async def test_the_outbox_is_delivered_through_an_outage(self) -> None:
        async with self._outbox() as (engine, deliverer):
            await self._commit(engine, range(20))
            await self._until_delivered(engine)
            await self.refuse()
            await self._commit(engine, range(20, 40))
            await eventually(lambda: deliverer.outbox.errors, self.patience)
            await self.accept()
            await self._until_delivered(engine)
            assert not deliverer.outbox.errors
        found = await self.numbers()
        assert set(found) == set(range(40)), "something was lost"
        if self.destination.idempotent:
            assert len(found) == 40, "something was written twice"

    async def test_the_outbox_is_delivered_in_its_order(self) -> None:
        async with self._outbox() as (engine, _):
            await self._commit(engine, range(BATCH + 20))
            await self._until_delivered(engine)
        assert await self.numbers() == list(range(BATCH + 20))

    @contextlib.asynccontextmanager
    async def _outbox(self) -> AsyncGenerator[tuple[MemoryEngine, Deliverer]]:
        engine, clock = MemoryEngine(), FakeClock()
        await engine.open(clock.now_ms())
        deliverer = Deliverer(engine, clock, Metrics(), lambda uri: self.make())
        tasks = {asyncio.create_task(deliverer.run()), asyncio.create_task(tick(clock))}
        try:
            yield engine, deliverer
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await engine.close()

    async def _commit(self, engine: MemoryEngine, numbers: range) -> None:
        records = [self.record(number) for number in numbers]
        sends = [Send(self._lane, record.id, record.payload, record.attributes) for record in records]
        await engine.commit(sends, self.clock.now_ms())

    async def _until_delivered(self, engine: MemoryEngine) -> None:
        loop = asyncio.get_running_loop()
        first, since = "", loop.time()
        while left := await engine.peek(self._lane, 1):
            if left[0].id != first:  # a slow server is none that stands still
                first, since = left[0].id, loop.time()
            assert loop.time() < since + self.patience, f"{first} was not delivered within {self.patience:g} s"
            await asyncio.sleep(0.01)

    @property
    def _lane(self) -> str:
        return f"{names.OUTBOX}{self.scheme}:{self.target}"

    async def _try(self, destination: Destination, records: list[OutgoingRecord]) -> list[Delivery]:
        try:
            return await destination.write(records)
        except ConnectorError as error:  # the other way to say the same of all of them
            return [RetryAfter(str(error))] * len(records)
