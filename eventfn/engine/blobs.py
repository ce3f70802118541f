"""Blobs as files, named by what they hold: code and layers. Plain blocking calls; sqlite.py runs them in a thread."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Collection, Iterable
from pathlib import Path

from eventfn.engine.folder import sync_folder

_UNFINISHED = ".part"


class BlobFolder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def prepare(self) -> None:
        """Clears away what a process that is gone had half written."""
        self._path.mkdir(mode=0o700, exist_ok=True)
        for leftover in self._path.glob(f"*{_UNFINISHED}"):
            leftover.unlink()

    def put(self, chunks: Iterable[bytes]) -> str:
        """SHA-256 in hex, once content and name are on disk. Nothing stays of a blob that could not be finished."""
        digest = hashlib.sha256()
        descriptor, draft = tempfile.mkstemp(suffix=_UNFINISHED, dir=self._path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            name = digest.hexdigest()
            Path(draft).rename(self._path / name)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                Path(draft).unlink()
            raise
        sync_folder(self._path)
        return name

    def drop(self, keep: Collection[str]) -> int:
        """How many others there were."""
        others = [blob for blob in self._path.iterdir() if blob.name not in keep]
        for blob in others:
            blob.unlink()
        return len(others)

    def get(self, digest: str) -> bytes | None:
        if len(digest) != 64 or not digest.isalnum():  # a name that is no SHA-256 must not become a path
            return None
        try:
            return (self._path / digest).read_bytes()
        except FileNotFoundError:
            return None
