"""Where the code of a request comes from: the request itself, S3, or a folder of this machine.

Not here: what a zip may hold (functions/uploads.py, functions/archives.py), how S3 is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from eventfn.api.operations import Call
from eventfn.errors import ConfigError
from eventfn.functions import configuring, uploads
from eventfn.functions.control import Control
from eventfn.functions.managed import Code
from eventfn.functions.model import Function
from eventfn.functions.refusals import invalid
from eventfn.workers.runtimes import finding

NO_SOURCE = "Please provide a source for function code."


class CodeSources:
    def __init__(self, control: Control, *, loopback: bool) -> None:
        """`loopback`: whoever asks is on this machine, and may name a folder of it."""
        self._control = control
        self._loopback = loopback

    async def of(self, given: Mapping[str, Any], call: Call, *, update: bool, keep: bool = True) -> Code:
        """Of CreateFunction's Code, UpdateFunctionCode's input or a layer's Content. `keep`: as a blob. Raises Refusal,
        EngineFull, EngineError."""
        if given.get("ImageUri"):
            if update:
                raise invalid("Please don't provide ImageUri when updating a function with packageType Zip.")
            raise configuring.no_images()
        archive: bytes | None = given.get("ZipFile")
        bucket, key = given.get("S3Bucket"), given.get("S3Key")
        if archive is not None:
            uploads.check_request(archive)
        elif bucket == uploads.LOCAL_FOLDER:
            if not self._loopback:
                raise invalid(
                    "Code in a folder of the machine is for callers on that machine: [admin] listen on loopback"
                )
            return await uploads.of_folder(key or "", self._control.project.data)
        elif bucket and key:
            archive = await self._control.fetch(bucket, key, given.get("S3ObjectVersion"), call.region)
        else:
            raise invalid(NO_SOURCE)
        return await uploads.of_zip(archive, self._control.engine if keep else None)

    async def check_runtime(self, name: str, runtime: str | None) -> None:
        """Raises Refusal: this machine does not have it."""
        function = Function(name=name, handler="", code="", runtime=runtime)
        try:
            await asyncio.to_thread(finding.find, function)
        except ConfigError as error:
            raise invalid("; ".join(problem.message for problem in error.problems)) from error
