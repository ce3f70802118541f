"""How often, and by how many at a time, the machine's resolver is asked."""

from __future__ import annotations

import asyncio
import socket

import pytest

from eventfn.clock import SystemClock
from eventfn.sandbox.allow_list import Target
from eventfn.testing.clock import FakeClock
from eventfn.workers.names import Address, Names, Unresolved

FOUND = (Address(socket.AF_INET, ("127.0.0.2", 1)),)


class Resolver:
    """Answers when it is let, and knows who asked and how many at a time."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: tuple[Address, ...] | OSError = FOUND
        self.let = asyncio.Event()
        self.let.set()
        self.asking = self.most = 0

    async def __call__(self, target: Target) -> tuple[Address, ...]:
        self.asked.append(target.host)
        self.asking += 1
        self.most = max(self.most, self.asking)
        await self.let.wait()
        self.asking -= 1
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


async def settled(*tasks: asyncio.Task[tuple[Address, ...]]) -> list[tuple[Address, ...] | BaseException]:
    return list(await asyncio.gather(*tasks, return_exceptions=True))


async def test_many_wait_for_one_look_up_and_its_answer_is_kept_for_a_while() -> None:
    clock, resolver = FakeClock(), Resolver()
    names = Names(clock, resolver)
    resolver.let.clear()
    waiting = [asyncio.create_task(names.addresses(Target("db", 1))) for _ in range(100)]
    await asyncio.sleep(0)
    resolver.let.set()
    assert await settled(*waiting) == [FOUND] * 100
    await clock.advance(4.9)
    await names.addresses(Target("db", 1))
    assert resolver.asked == ["db"]
    await clock.advance(0.1)
    await names.addresses(Target("db", 1))
    assert resolver.asked == ["db", "db"]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        ((), "the name has no address"),
    ],
)
async def test_a_failure_is_kept_too(answer: tuple[Address, ...] | OSError, why: str) -> None:
    clock, resolver = FakeClock(), Resolver()
    resolver.answer = answer
    names = Names(clock, resolver)
    for _ in range(3):
        with pytest.raises(Unresolved, match=f"^{why}$"):
            await names.addresses(Target("db", 1))
    assert resolver.asked == ["db"]
    await clock.advance(5)
    resolver.answer = FOUND
    assert await names.addresses(Target("db", 1)) == FOUND


async def test_no_more_than_two_names_at_a_time() -> None:
    resolver = Resolver()
    names = Names(FakeClock(), resolver)
    resolver.let.clear()
    waiting = [asyncio.create_task(names.addresses(Target(f"host-{at}", 1))) for at in range(10)]
    for _ in range(20):  # as many turns of the loop as anybody could need
        await asyncio.sleep(0)
    assert resolver.asking == 2
    resolver.let.set()
    assert await settled(*waiting) == [FOUND] * 10
    assert resolver.most == 2


async def test_who_gives_up_takes_the_answer_from_nobody_else() -> None:
    resolver = Resolver()
    names = Names(FakeClock(), resolver)
    resolver.let.clear()
    hasty, patient = (asyncio.create_task(names.addresses(Target("db", 1))) for _ in range(2))
    await asyncio.sleep(0)
    hasty.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hasty
    resolver.let.set()
    assert await patient == FOUND
    assert resolver.asked == ["db"]


async def test_closing_ends_what_is_asked() -> None:
    resolver = Resolver()
    names = Names(FakeClock(), resolver)
    resolver.let.clear()
    waiting = asyncio.create_task(names.addresses(Target("db", 1)))
    await asyncio.sleep(0)
    names.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_the_machines_own_resolver() -> None:
    names = Names(SystemClock())
    assert Address(socket.AF_INET, ("127.0.0.1", 80)) in await names.addresses(Target("localhost", 80))
    with pytest.raises(Unresolved):
        await names.addresses(Target("a" * 63 + "." + "b" * 64, 80))  # too long a label for any name


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "fd00:ec2::254", "0.0.0.0", "::", "224.0.0.1"]
)
async def test_no_name_leads_to_the_machines_own_link(address: str) -> None:
    resolver = Resolver()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    resolver.answer = (Address(family, (address, 80)),)
    names = Names(FakeClock(), resolver)
    with pytest.raises(Unresolved, match="own link: list the address itself"):
        await names.addresses(Target("attacker.example", 80))


async def test_of_several_addresses_those_are_left_that_it_may_lead_to() -> None:
    resolver = Resolver()
    resolver.answer = (Address(socket.AF_INET, ("169.254.169.254", 1)), *FOUND)
    assert await Names(FakeClock(), resolver).addresses(Target("db", 1)) == FOUND
