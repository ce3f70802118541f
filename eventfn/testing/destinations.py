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

import functools
import inspect
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import pytest_asyncio

from eventfn.destination import Delivery, Destination, DestinationContext, OutgoingRecord, Rejected, RetryAfter, Written
from eventfn.errors import ConnectorError
from eventfn.plugins import Plugins
from eventfn.testing import lint
from eventfn.testing.clock import FakeClock
from eventfn.testing.contexts import destination_context


class DestinationSuite:
    pytestmark = pytest.mark.asyncio

    destination: ClassVar[type[Any]]
    scheme: ClassVar[str]  # the entry point's name
    target: str  # a good target; a fixture may set it
    nonsense: ClassVar[Sequence[str]]
    has_sample: ClassVar[bool] = True  # sample.toml and README.md stand beside the package
    variables: ClassVar[Mapping[str, str]] = {}  # of the environment, where sample.toml says "${NAME}"
    largest: ClassVar[int] = 1024 * 1024  # bytes of the biggest payload that it must take

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
            await destination.close(1)

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
        await destination.close(5)

    async def test_it_closes_after_half_a_start_and_twice(self) -> None:
        destination = self.make()
        await destination.close(5)
        await destination.close(5)

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

    async def test_nothing_to_write_is_nothing_written(self) -> None:
        assert await (await self.opened()).write([]) == []
        assert await self.received() == []

    async def test_it_writes_on_after_a_restart(self) -> None:
        first = await self.opened()
        await self.write(first, self.record(1))
        await first.close(5)
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
        await first.close(5)
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

    async def _try(self, destination: Destination, records: list[OutgoingRecord]) -> list[Delivery]:
        try:
            return await destination.write(records)
        except ConnectorError as error:  # the other way to say the same of all of them
            return [RetryAfter(str(error))] * len(records)
