from __future__ import annotations

from typing import Any

import msgspec
import pytest
from eventfn_tail import StdoutDestination
from eventfn_tail.destination import StdoutSettings

from eventfn.destination import OutgoingRecord
from eventfn.testing import DestinationSuite


class TestStdoutDestination(DestinationSuite):
    destination = StdoutDestination
    scheme = "stdout"
    target = "json"
    nonsense = ("", "xml", "json ")

    @pytest.fixture(autouse=True)
    def _output(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    async def received(self) -> list[Any]:
        return [msgspec.json.decode(line) for line in self.capsys.readouterr().out.split("\n") if line]

    async def test_brief_says_it_in_a_sentence(self) -> None:
        destination = StdoutDestination("brief", StdoutSettings(), self.context)
        payload = b'{"requestContext": {"condition": "Success", "requestId": "r-1"}}'
        await destination.write(
            [OutgoingRecord("1", payload, {"eventfn.origin": "fn:alarm"}), OutgoingRecord("2", b"7")]
        )
        assert self.capsys.readouterr().out == "fn:alarm: Success r-1\nsomebody: an event 2\n"
