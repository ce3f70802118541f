from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from eventfn.destination import Delivery, DestinationContext, OutgoingRecord, Rejected, RetryAfter
from eventfn.errors import EngineFull, FunctionNotReady, PayloadTooLarge, ShuttingDown, Throttled
from eventfn.testing import DestinationSuite, Submissions, destination_context
from eventfn_fn import FunctionDestination
from eventfn_fn.destination import FunctionSettings


class TestFunctionDestination(DestinationSuite):
    destination = FunctionDestination
    scheme = "fn"
    target = "complain"
    nonsense = ("", "two words", "a.b", "name:1", "x" * 65)

    @pytest.fixture(autouse=True)
    def _functions(self) -> None:
        self.submissions = Submissions(["complain"])

    def make_context(self) -> DestinationContext:
        return destination_context(self.folder, clock=self.clock, submissions=self.submissions)

    async def received(self) -> list[Any]:
        return [msgspec.json.decode(payload) for _, payload in self.submissions.events]

    async def refuse(self) -> None:
        self.submissions.refusal = EngineFull("no space left for the data folder")

    async def accept(self) -> None:
        self.submissions.refusal = None


@pytest.mark.parametrize(
    ("refusal", "answer"),
    [
        (Throttled("its queue is full", retry_after=7), RetryAfter("complain is throttled: its queue is full", 7)),
        (EngineFull("no space left"), RetryAfter("no space left")),
        (ShuttingDown(), RetryAfter("ShuttingDown")),
        (FunctionNotReady("complain", "Pending"), RetryAfter(str(FunctionNotReady("complain", "Pending")))),
        (
            PayloadTooLarge(2_000_000, 1_048_576),
            Rejected("Request must be smaller than 1048576 bytes for the InvokeFunction operation"),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_the_function_answers_a_refusal_with(refusal: Exception, answer: Delivery, tmp_path: Path) -> None:
    submissions = Submissions(["complain"])
    submissions.refusal = refusal
    destination = FunctionDestination(
        "complain", FunctionSettings(), destination_context(tmp_path, submissions=submissions)
    )
    assert await destination.write([OutgoingRecord(id="1", payload=b"{}")]) == [answer]


async def test_a_function_that_is_gone_sends_the_record_to_the_dead_letters(tmp_path: Path) -> None:
    destination = FunctionDestination(
        "complain", FunctionSettings(), destination_context(tmp_path, submissions=Submissions(["other"]))
    )
    (answer,) = await destination.write([OutgoingRecord(id="1", payload=b"{}")])
    assert answer == Rejected("Function not found: complain")
