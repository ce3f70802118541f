"""Resource policies of functions, versions and aliases: AddPermission and its kin, and the newer whole documents.

What a statement may be, and the limit: functions/policies.py. Functions of eventfn.toml have policies too: they are
resources of their own, and the file says nothing of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from eventfn.api.common import arn_of, named, refuse_stale, revised, revision_of
from eventfn.api.operations import Answer, Call, Handler
from eventfn.functions import policies
from eventfn.functions.control import Control
from eventfn.functions.managed import LATEST, ManagedFunction
from eventfn.functions.names import Named
from eventfn.functions.policies import Policy
from eventfn.functions.refusals import invalid, missing


class Policies:
    def __init__(self, control: Control) -> None:
        self._control = control

    def operations(self) -> Mapping[str, Handler]:
        return {
            "AddPermission": self._add,
            "GetPolicy": self._get,
            "RemovePermission": self._remove,
            "PutResourcePolicy": self._put_document,
            "GetResourcePolicy": self._get_document,
            "DeleteResourcePolicy": self._delete_document,
        }

    # --- one statement -----------------------------------------------------------------------------------------------

    async def _add(self, call: Call) -> Answer:
        target = self._changeable(call)
        self._control.require_version(target, region=call.region)
        statement = policies.permission(call.input, arn_of(self._control, call, target))

        def edit(function: ManagedFunction) -> ManagedFunction:
            refuse_stale(call.input.get("RevisionId"), revision_of(function, target.qualifier), "GetPolicy")
            return _with(function, target, policies.added(_of(function, target), statement))

        await self._control.add(target.name, edit)
        return Answer({"Statement": msgspec.json.encode(statement).decode()})

    async def _get(self, call: Call) -> Answer:
        return self._shown(named(self._control, call))

    async def _remove(self, call: Call) -> Answer:
        target = self._changeable(call)
        if self._control.get(target.name) is None:
            raise missing(f"No policy found for: {arn_of(self._control, call, target)}")

        def edit(function: ManagedFunction) -> ManagedFunction:
            left = policies.removed(_of(function, target), call.input["StatementId"])
            refuse_stale(call.input.get("RevisionId"), revision_of(function, target.qualifier), "GetFunction/GetAlias")
            return _with(function, target, left)

        await self._control.add(target.name, edit)
        return Answer()

    def _changeable(self, call: Call) -> Named:
        target = named(self._control, call)
        if target.qualifier == LATEST:
            raise invalid("We currently do not support adding policies for $LATEST.")
        return target

    # --- the whole document ------------------------------------------------------------------------------------------

    async def _put_document(self, call: Call) -> Answer:
        target = self._resource(call)
        self._control.require_version(target, region=call.region)
        policy = policies.parsed(call.input["Policy"], call.input["ResourceArn"])

        def edit(function: ManagedFunction) -> ManagedFunction:
            refuse_stale(call.input.get("RevisionId"), revision_of(function, target.qualifier), "GetResourcePolicy")
            return _with(function, target, policy)

        await self._control.add(target.name, edit)
        return self._shown(target)

    async def _get_document(self, call: Call) -> Answer:
        return self._shown(self._resource(call))

    async def _delete_document(self, call: Call) -> Answer:
        target = self._resource(call)
        self._shown(target)

        def edit(function: ManagedFunction) -> ManagedFunction:
            refuse_stale(call.input.get("RevisionId"), revision_of(function, target.qualifier), "GetResourcePolicy")
            return _with(function, target, None)

        await self._control.add(target.name, edit)
        return Answer()

    def _resource(self, call: Call) -> Named:
        target = self._control.named(call.input["ResourceArn"], region=call.region)
        if target.qualifier == LATEST:
            raise invalid("We currently do not support adding policies for $LATEST.")
        return target

    def _shown(self, target: Named) -> Answer:
        function = self._control.get(target.name)
        policy = None if function is None else _of(function, target)
        if function is None or policy is None:
            raise missing()
        return Answer({"Policy": policy.document(), "RevisionId": revision_of(function, target.qualifier)})


def _of(function: ManagedFunction, target: Named) -> Policy | None:
    return function.policies.get(target.qualifier or "")


def _with(function: ManagedFunction, target: Named, policy: Policy | None) -> ManagedFunction:
    kept = {key: each for key, each in function.policies.items() if key != (target.qualifier or "")}
    if policy is not None:
        kept[target.qualifier or ""] = policy
    return revised(msgspec.structs.replace(function, policies=kept), target.qualifier)
