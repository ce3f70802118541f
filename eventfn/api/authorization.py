"""Whether the one who asks may do what he asks: identity policies, and the policy of the function or the layer version
that it is about.

In the account's own house one of the two has to allow it; who is of another account needs both. Whose key has no
policy may do everything in his own account. Not here: what a statement means (functions/permissions).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from eventfn.api.errors import ApiError, access_denied
from eventfn.api.identity import Principal
from eventfn.api.operations import Call
from eventfn.errors import Refused
from eventfn.functions.control import Control
from eventfn.functions.managed import Layer
from eventfn.functions.names import Named
from eventfn.functions.permissions import Asked, Decision, Statement, evaluate

# Where the permission is not called as the operation is.
_ACTIONS = {
    "GetLayerVersionByArn": "GetLayerVersion",
    "Invoke": "InvokeFunction",
    "InvokeWithResponseStream": "InvokeFunction",
}

_LAYER_VERSION = re.compile(r"(?P<layer>arn:[^:]+:lambda:[^:]+:[^:]+:layer:(?P<name>[^:]+)):(?P<number>\d+)")

# The input's member that names the resource as an ARN of its own.
_ARNS = ("Resource", "ResourceArn", "CodeSigningConfigArn", "DurableExecutionArn")

# Condition keys of Lambda -> the input's member.
_KEYS = {
    "lambda:principal": "Principal",
    "lambda:functionurlauthtype": "AuthType",
    "lambda:codesigningconfigarn": "CodeSigningConfigArn",
    "lambda:layer": "Layers",
}


def may_everything(caller: Principal, account: str) -> bool:
    return caller.policy is None and caller.account == account


def authorize(call: Call, control: Control, now: float, source_ip: str) -> None:
    """`now`: seconds since the epoch. Raises ApiError (AccessDeniedException)."""
    caller, own = call.principal, call.principal.account == control.account
    function = _function(call, control)
    asked = Asked(
        action=f"lambda:{_ACTIONS.get(call.operation, call.operation)}",
        resource=_resource(call, control, function),
        principal=caller.arn,
        account=caller.account,
        context=_context(call, control, function, now, source_ip),
    )
    statements = _layer_policy(control, asked.resource) if function is None else _policy(control, function)
    _decide(caller, asked, statements, own=own)
    if own:
        return
    for layer in call.input.get("Layers") or ():  # which a function would have, and he may not
        use = msgspec.structs.replace(asked, action="lambda:GetLayerVersion", resource=layer)
        _decide(caller, use, _layer_policy(control, layer), own=False)


def _decide(caller: Principal, asked: Asked, statements: Sequence[Statement], *, own: bool) -> None:
    """`statements` are those of the resource's policy. Raises ApiError."""
    everything: Statement = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    by_identity = evaluate((everything,) if caller.policy is None else caller.policy, asked)
    by_resource = evaluate(statements, asked, of_resource=True)
    for decision, kind in ((by_identity, "an identity-based"), (by_resource, "a resource-based")):
        if decision is Decision.DENIED:
            raise _denied(asked, f"with an explicit deny in {kind} policy")
    allowed = (by_identity is Decision.ALLOWED, by_resource is Decision.ALLOWED)
    if not (any(allowed) if own else all(allowed)):
        kind = "identity" if own or not allowed[0] else "resource"
        raise _denied(asked, f"because no {kind}-based policy allows the {asked.action} action")


def authorize_identity(caller: Principal, account: str, action: str, resource: str) -> None:
    """For what has no policy of its own. Raises ApiError (AccessDeniedException)."""
    asked = Asked(action=action, resource=resource, principal=caller.arn, account=caller.account)
    if caller.account != account:
        raise _denied(asked, f"because no resource-based policy allows the {action} action")
    decision = Decision.ALLOWED if caller.policy is None else evaluate(caller.policy, asked)
    if decision is Decision.DENIED:
        raise _denied(asked, "with an explicit deny in an identity-based policy")
    if decision is Decision.SILENT:
        raise _denied(asked, f"because no identity-based policy allows the {action} action")


def _denied(asked: Asked, why: str) -> ApiError:
    said = f"User: {asked.principal} is not authorized to perform: {asked.action} on resource: {asked.resource} {why}"
    return access_denied(said)


def _function(call: Call, control: Control) -> Named | None:
    """What the call is about, if that is a function."""
    for member in ("FunctionName", "ResourceArn", "Resource"):
        given = call.input.get(member, "")
        if (member == "FunctionName" and given) or ":function:" in given:
            try:
                return control.named(given, call.input.get("Qualifier"), region=call.region)
            except Refused:
                return None  # which the operation says in its own words, to who may ask
    return None


def _resource(call: Call, control: Control, function: Named | None) -> str:
    """The ARN that the call is about; "*" where there is none yet, or it is about many."""
    given, base = call.input, f"arn:aws:lambda:{call.region}:{control.account}"
    if "EventSourceMapping" in call.operation:
        return f"{base}:event-source-mapping:{given['UUID']}" if "UUID" in given else "*"
    if function is not None:
        return control.arn(function.name, function.qualifier, region=call.region)
    for member in _ARNS:
        if member in given:
            return str(given[member])
    if "LayerName" in given:
        name = str(given["LayerName"])
        layer = name if name.startswith("arn:") else f"{base}:layer:{name}"
        return f"{layer}:{given['VersionNumber']}" if "VersionNumber" in given else layer
    if call.operation == "GetLayerVersionByArn":
        return str(given["Arn"])
    if "CapacityProviderName" in given:
        return f"{base}:capacity-provider:{given['CapacityProviderName']}"
    return "*"


def _policy(control: Control, function: Named) -> Sequence[Statement]:
    """The statements about exactly this function, version or alias."""
    found = control.get(function.name)
    policy = None if found is None else found.policies.get(function.qualifier or "")
    return () if policy is None else policy.statements


def _layer_policy(control: Control, arn: str) -> Sequence[Statement]:
    """Of the layer version that this is the ARN of, if it is."""
    parts = _LAYER_VERSION.fullmatch(arn)
    layer = None if parts is None else control.store.document(f"layers/{parts['name']}", Layer)
    if parts is None or layer is None or layer.arn != parts["layer"]:
        return ()
    version = layer.versions.get(parts["number"])
    return () if version is None or version.policy is None else version.policy.statements


def _context(
    call: Call, control: Control, function: Named | None, now: float, source_ip: str
) -> Mapping[str, Sequence[str]]:
    caller = call.principal
    context: dict[str, Sequence[str]] = {
        "aws:principalarn": (caller.arn,),
        "aws:principalaccount": (caller.account,),
        "aws:username": (caller.arn.rpartition("/")[2],),
        "aws:sourceip": (source_ip,),
        "aws:currenttime": (datetime.datetime.fromtimestamp(now, datetime.UTC).isoformat(),),
        "aws:epochtime": (str(int(now)),),
        "aws:requestedregion": (call.region,),
        "aws:securetransport": ("true" if call.base_url.startswith("https:") else "false",),
    }
    if function is not None:
        context["lambda:functionarn"] = (control.arn(function.name, function.qualifier, region=call.region),)
    for key, member in _KEYS.items():
        if member in call.input:
            value: Any = call.input[member]
            context[key] = [str(each) for each in cast(Any, value)] if isinstance(value, list) else [str(value)]
    return context
