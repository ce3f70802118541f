"""The functions of the API as its handlers see them: found by what a request calls them, changed, and told apart from
those of eventfn.toml, which are shown and changed only in the file.

Does not belong here: what an operation does (api/), what a change does to the node (deployment.py).
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Awaitable, Callable

import msgspec

from eventfn.aws.roles import Roles
from eventfn.clock import Clock
from eventfn.engine.contract import Engine
from eventfn.errors import ConnectorError
from eventfn.functions import deriving, versioning
from eventfn.functions.managed import Additions, ManagedFunction, Version
from eventfn.functions.model import Function, Project
from eventfn.functions.names import Named, function_arn, named
from eventfn.functions.refusals import conflict, invalid, missing
from eventfn.functions.registry import Registry
from eventfn.functions.store import Edit, Exists, Store

# Bucket, key, version, region -> the object's bytes. Raises Refusal.
Fetch = Callable[[str, str, str | None, str], Awaitable[bytes]]

_ADDITIONS = "declared/"  # declared/<name>: what the API has added to a function of eventfn.toml


def new_id() -> str:
    """Of a revision, a mapping ..."""
    return str(uuid.uuid4())


class Control:
    """`project` is what is declared now."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        engine: Engine,
        clock: Clock,
        project: Callable[[], Project],
        fetch: Fetch,
        new_id: Callable[[], str] = new_id,
        *,
        roles: Roles | None = None,
    ) -> None:
        """`roles`: None takes every role."""
        self.store = store
        self.registry = registry
        self.engine = engine
        self.clock = clock
        self.new_id = new_id
        self.fetch = fetch
        self.secret = secrets.token_bytes(32)  # what this node signs locations of code with
        self._project = project
        self._roles = roles
        self._since_ms = clock.now_ms()

    @property
    def project(self) -> Project:
        return self._project()

    @property
    def account(self) -> str:
        return self._project().aws.account

    async def check_role(self, role: str, function: str) -> None:
        """Whether this function's environments will get its credentials. Raises Refusal, in Lambda's words."""
        try:
            if self._roles is not None:
                await self._roles.check(role, function)
        except ConnectorError as error:
            raise invalid(str(error)) from error

    # --- finding -----------------------------------------------------------------------------------------------------

    def named(self, function: str, qualifier: str | None = None, *, region: str) -> Named:
        """What a request's FunctionName and Qualifier say. Raises Refusal."""
        return named(function, qualifier, region=region, account=self.account)

    def arn(self, name: str, qualifier: str | None = None, *, region: str) -> str:
        """Of one that is there or not."""
        found = self.get(name)
        return function_arn(found.region if found else region, self.account, name, qualifier)

    def get(self, name: str) -> ManagedFunction | None:
        """Made through the API or declared."""
        return self.store.get(name) or self._shown(name)

    def require(self, function: Named, *, region: str, shown: str | None = None) -> ManagedFunction:
        """Raises Refusal: "Function not found", with the ARN as it was asked for, or with the qualifier `shown`."""
        found = self.get(function.name)
        if found is None:
            raise self.not_found(function, region=region, shown=shown)
        return found

    def require_version(
        self, function: Named, *, region: str, shown: str | None = None
    ) -> tuple[ManagedFunction, Version]:
        """Of the qualifier, an alias being its main version. Raises Refusal, as `require`."""
        found = self.require(function, region=region, shown=shown)
        version = found.resolve(function.qualifier)
        if version is None:
            raise self.not_found(function, region=region, shown=shown)
        return found, version

    def not_found(self, function: Named, *, region: str, shown: str | None = None) -> Exception:
        arn = self.arn(function.name, function.qualifier or shown, region=region)
        return missing(f"Function not found: {arn}")

    def names(self) -> list[str]:
        """In the order of the alphabet."""
        return sorted({*self._project().functions, *self.store.names()})

    # --- changing ----------------------------------------------------------------------------------------------------

    def refuse_declared(self, name: str) -> None:
        """Raises Refusal for a function of eventfn.toml."""
        function = self._project().functions.get(name)
        if function is not None:
            raise conflict(f"{name} is declared in {_place(function)}: change it there")

    async def create(self, function: ManagedFunction) -> None:
        """Raises Refusal: there is one."""
        if function.name in self._project().functions:
            raise versioning.already_there(function.name)
        try:
            await self.store.create(function)
        except Exists as exists:
            raise versioning.already_there(function.name) from exists

    async def change(self, name: str, edit: Edit) -> ManagedFunction:
        """See Store.change. Raises Refusal for a function of eventfn.toml."""
        self.refuse_declared(name)
        return await self.store.change(name, edit)

    async def add(self, name: str, edit: Edit) -> ManagedFunction:
        """As `change`, for what may hang on a function of eventfn.toml too: its policies and URLs, which the file does
        not know. Raises Refusal when there is no such function."""
        if name not in self._project().functions:
            return await self.store.change(name, edit)
        made: list[ManagedFunction] = []

        def change(before: Additions | None) -> Additions | None:
            shown = self._shown(name)
            if shown is None:
                raise missing(f"Function not found: {self.arn(name, region=self._project().aws.region)}")
            made.append(after := edit(shown))
            if not after.policies and not after.urls:
                return None
            return Additions(policies=after.policies, urls=after.urls, revision_id=after.latest.revision_id)

        await self.store.change_document(_ADDITIONS + name, Additions, change)
        return made[-1]

    # --- those of eventfn.toml ---------------------------------------------------------------------------------------

    def _shown(self, name: str) -> ManagedFunction | None:
        function = self._project().functions.get(name)
        found = self.registry.get(name)
        if function is None or found is None:
            return None
        shown = deriving.declared(function, found.prepared, self._project().aws, self._since_ms)
        added = self.store.document(_ADDITIONS + name, Additions)
        if added is None:
            return shown
        latest = revised(shown.latest, added.revision_id)
        return msgspec.structs.replace(shown, policies=added.policies, urls=added.urls, latest=latest)


def revised(version: Version, revision_id: str) -> Version:
    """The same, as another revision: something that hangs on it has changed."""
    return msgspec.structs.replace(version, revision_id=revision_id)


def _place(function: Function) -> str:
    where = function.where
    return where.file if where.line is None else f"{where.file}, line {where.line}"
