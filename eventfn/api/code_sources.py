"""Where the code of a request comes from: the request itself, S3, or a folder of this machine.

Not here: what a zip may hold (functions/uploads.py, functions/archives.py), how S3 is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from eventfn.api.operations import Call
from eventfn.errors import ConfigError
from eventfn.functions import configuring, runs, uploads
from eventfn.functions.control import Control
from eventfn.functions.managed import AttachedLayer, Code, Configuration
from eventfn.functions.model import Function
from eventfn.functions.refusals import invalid
from eventfn.workers.runtimes import finding

NO_SOURCE = "Please provide a source for function code."


class CodeSources:
    def __init__(self, control: Control, *, loopback: bool) -> None:
        """`loopback`: whoever asks is on this machine, and may name a folder of it."""
        self._control = control
        self._loopback = loopback

    async def of(
        self,
        given: Mapping[str, Any],
        call: Call,
        *,
        update: bool,
        configuration: Configuration | None = None,
        keep: bool = True,
    ) -> Code:
        """Of CreateFunction's Code, UpdateFunctionCode's input or a layer's Content. `configuration`: what it is to run
        with, and must fit. `keep`: as a blob. Raises Refusal, EngineFull, EngineError: nothing of it is kept then."""
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
            folder = await uploads.of_folder(key or "", self._control.project.data)
            await self._check_fits(folder, configuration)
            return folder
        elif bucket and key:
            archive = await self._control.fetch(bucket, key, given.get("S3ObjectVersion"), call.region)
        else:
            raise invalid(NO_SOURCE)
        code = await asyncio.to_thread(uploads.checked, archive)
        await self._check_fits(code, configuration)
        if keep:
            await self._control.engine.put_blob([archive])
        return code

    async def runtime_version(self, name: str, runtime: str | None, region: str) -> str:
        """ARN of the one that this machine has. Raises Refusal: it has none. Of some runtimes the code must say so:
        `check_bootstrap`."""
        function = Function(name=name, handler="", code="", runtime=runtime)
        try:
            return (await asyncio.to_thread(finding.find, function)).version_arn(region)
        except ConfigError as error:
            raise invalid("; ".join(problem.message for problem in error.problems)) from error

    async def check_bootstrap(self, code: Code, configuration: Configuration) -> None:
        """Raises Refusal: the runtime is one that comes with the code, and neither that nor a layer brings it."""
        runtime = configuration.runtime
        if runs.needs_bootstrap(runtime) and not await asyncio.to_thread(_brings_bootstrap, code, configuration.layers):
            raise invalid(runs.no_bootstrap(runtime))

    async def _check_fits(self, code: Code, configuration: Configuration | None) -> None:
        if configuration is not None:
            configuring.check_size(code, configuration.layers)
            await self.check_bootstrap(code, configuration)


def _brings_bootstrap(code: Code, layers: Iterable[AttachedLayer]) -> bool:
    return any(
        each.bootstrap if each.folder is None else runs.has_bootstrap(each.folder)
        for each in (code, *(layer.code for layer in layers))
    )
