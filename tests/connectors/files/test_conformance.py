"""The files connector is a trigger as the contract has it."""

from __future__ import annotations

from eventfn.testing.triggers import TriggerSuite
from eventfn_files import FilesTrigger
from eventfn_files.settings import FilesSettings


class TestFilesTrigger(TriggerSuite):
    trigger = FilesTrigger
    name = "files"
    outside = True
    nonsense = ({}, {"path": "inbox", "events": []}, {"path": "inbox", "events": ["Created"]})

    def settings(self) -> FilesSettings:
        return FilesSettings(path="inbox", events=("ObjectCreated:*", "ObjectRemoved:*"))

    async def elsewhere(self) -> FilesSettings:
        return FilesSettings(path="other")

    async def put(self, number: int) -> None:
        inbox = self.folder / "inbox"
        inbox.mkdir(exist_ok=True)
        (inbox / f"{number}.txt").write_text(f"number {number}")

    async def refuse(self) -> None:
        inbox = self.folder / "inbox"
        if inbox.exists():
            inbox.rename(self.folder / "aside")
        inbox.write_text("in the way")

    async def accept(self) -> None:
        (self.folder / "inbox").unlink()
        if (self.folder / "aside").exists():
            (self.folder / "aside").rename(self.folder / "inbox")
