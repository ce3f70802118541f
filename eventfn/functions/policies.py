"""Resource policies: the documents that say who else may use a function, a version, an alias or a layer version.

What belongs here: how statements are made, added, taken away and limited, in Lambda's words. What they mean for a
request: permissions.py.

PURE.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import msgspec

from eventfn.functions.refusals import Refusal, conflict, invalid, missing

MAX_POLICY = 20_480  # bytes of the whole document
INVALID_PRINCIPAL = "The provided principal was invalid. Please check the principal and try again."
NO_POLICY = "No policy is associated with the given resource."

_VERSIONS = ("2012-10-17", "2008-10-17")
_ACCOUNT = re.compile(r"[0-9]{12}")
_PRINCIPAL_ARN = re.compile(r"arn:aws[a-z-]*:(?:iam|sts)::(?:[0-9]{12}|cloudfront):[\w+=,.@/-]+", re.ASCII)
_SERVICE = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:amazonaws\.com(?:\.cn)?|amazon\.com)")
_ACTION = re.compile(r"\*|lambda:(?:\*|[A-Za-z]+\*?)")
_ELEMENTS = frozenset({"Sid", "Effect", "Principal", "NotPrincipal", "Action", "Resource", "Condition"})

# Parameter of AddPermission -> operator and key of the condition. Source: functions-api, "Policy document".
_CONDITIONS = {
    "SourceArn": ("ArnLike", "AWS:SourceArn"),
    "SourceAccount": ("StringEquals", "AWS:SourceAccount"),
    "EventSourceToken": ("StringEquals", "lambda:EventSourceToken"),
    "FunctionUrlAuthType": ("StringEquals", "lambda:FunctionUrlAuthType"),
    "PrincipalOrgID": ("StringEquals", "aws:PrincipalOrgID"),
    "OrganizationId": ("StringEquals", "aws:PrincipalOrgID"),  # what AddLayerVersionPermission calls it
    "InvokedViaFunctionUrl": ("Bool", "lambda:InvokedViaFunctionUrl"),
}

Statement = dict[str, Any]  # as it stands in the document


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """At least one statement: a policy that loses its last one is gone."""

    statements: tuple[Statement, ...]
    id: str | None = "default"
    version: str = "2012-10-17"

    def document(self) -> str:
        """The JSON text in which Lambda hands it out."""
        head: dict[str, Any] = {"Version": self.version}
        if self.id is not None:
            head["Id"] = self.id
        return msgspec.json.encode({**head, "Statement": self.statements}).decode()

    def with_statement(self, added: Statement) -> Policy:
        """Raises Refusal: its Sid is taken, or the document becomes too long."""
        if any(each.get("Sid") == added["Sid"] for each in self.statements):
            raise conflict(
                f"The statement id ({added['Sid']}) provided already exists. "
                "Please provide a new statement id, or remove the existing statement."
            )
        return _limited(msgspec.structs.replace(self, statements=(*self.statements, added)))

    def without_statement(self, sid: str) -> Policy | None:
        """None: it was the last one. Raises Refusal when there is none of that name."""
        left = tuple(each for each in self.statements if each.get("Sid") != sid)
        if len(left) == len(self.statements):
            raise missing(f"Statement {sid} is not found in resource policy.")
        return msgspec.structs.replace(self, statements=left) if left else None


def added(policy: Policy | None, statement: Statement) -> Policy:
    """The policy with this statement too; a new one where there was none. Raises Refusal."""
    if policy is None:
        return _limited(Policy(statements=(statement,)))
    return policy.with_statement(statement)


def removed(policy: Policy | None, sid: str) -> Policy | None:
    """Raises Refusal: there is no policy, or no statement of that name in it."""
    if policy is None:
        raise missing(NO_POLICY)
    return policy.without_statement(sid)


def permission(asked: Mapping[str, Any], resource: str) -> Statement:
    """The statement that AddPermission or AddLayerVersionPermission asks for, about the ARN `resource`. Raises
    Refusal."""
    action = asked["Action"]
    if asked.get("FunctionUrlAuthType") is not None and action != "lambda:InvokeFunctionUrl":
        raise invalid("FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action")
    statement: Statement = {
        "Sid": asked["StatementId"],
        "Effect": "Allow",
        "Principal": _principal(asked["Principal"], resource.split(":")[1]),
        "Action": action,
        "Resource": resource,
    }
    conditions: dict[str, dict[str, str]] = {}
    for parameter, (operator, key) in _CONDITIONS.items():
        value = asked.get(parameter)
        if value is not None:
            text = str(value).lower() if isinstance(value, bool) else value
            conditions.setdefault(operator, {})[key] = text
    if conditions:
        statement["Condition"] = conditions
    return statement


def _principal(given: str, partition: str) -> str | dict[str, str]:
    if given == "*":
        return "*"
    if _ACCOUNT.fullmatch(given):
        return {"AWS": f"arn:{partition}:iam::{given}:root"}
    if _PRINCIPAL_ARN.fullmatch(given):
        return {"AWS": given}
    if _SERVICE.fullmatch(given):
        return {"Service": given}
    raise invalid(INVALID_PRINCIPAL)


def _limited(policy: Policy) -> Policy:
    size = len(policy.document().encode())
    if size > MAX_POLICY:
        raise Refusal(
            "PolicyLengthExceededException", f"The final policy size ({size}) is bigger than the limit ({MAX_POLICY})."
        )
    return policy


# --- whole documents: PutResourcePolicy ------------------------------------------------------------------------------


def parsed(text: str, resource: str) -> Policy:
    """A document that somebody wrote, for the ARN `resource`. Raises Refusal with what is wrong in it."""
    try:
        document: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise _malformed("it is not JSON") from error
    if not _is_object(document) or not document.keys() <= {"Version", "Id", "Statement"}:
        raise _malformed("expected an object with Version, Id and Statement")
    version, name, statements = document.get("Version", "2008-10-17"), document.get("Id"), document.get("Statement")
    if version not in _VERSIONS:
        raise _malformed(f"Version must be one of {', '.join(_VERSIONS)}")
    if name is not None and not isinstance(name, str):
        raise _malformed("Id must be text")
    good: list[Statement] = []
    for number, statement in enumerate(_listed(statements)):
        if not _is_object(statement):
            raise _malformed(f"Statement[{number}]: it must be an object")
        if wrong := _wrong_in(statement, resource):
            raise _malformed(f"Statement[{number}]: {wrong}")
        good.append(statement)
    sids = [statement["Sid"] for statement in good if "Sid" in statement]
    if len(set(sids)) < len(sids):
        raise _malformed("every Sid must be there once only")
    return _limited(Policy(statements=tuple(good), id=name, version=version))


def _malformed(why: str) -> Refusal:
    return invalid(f"The policy document is malformed: {why}.")


def _wrong_in(statement: Statement, resource: str) -> str | None:
    if unknown := sorted(statement.keys() - _ELEMENTS):
        return f"unknown element {unknown[0]}"
    if not isinstance(statement.get("Sid", ""), str):
        return "Sid must be text"
    if statement.get("Effect") not in ("Allow", "Deny"):
        return "Effect must be Allow or Deny"
    if ("Principal" in statement) == ("NotPrincipal" in statement):
        return "either Principal or NotPrincipal must be there"
    if not _are_principals(statement.get("Principal", statement.get("NotPrincipal"))):
        return "Principal must be *, or name AWS principals or services"
    if not _are_texts(statement.get("Action"), _ACTION):
        return "Action must name actions of lambda"
    if not all(each == resource for each in _listed(statement.get("Resource"))):
        return f"Resource must be {resource}"
    return (
        None if _are_conditions(statement.get("Condition", {})) else "Condition must map operators to keys and values"
    )


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _listed(value: Any) -> Sequence[Any]:
    """One or several, as everywhere in a policy; nothing at all is one thing that is wrong."""
    return value if _is_list(value) and value else [value]


def _are_texts(value: Any, pattern: re.Pattern[str]) -> bool:
    return all(isinstance(each, str) and pattern.fullmatch(each) for each in _listed(value))


def _are_principals(value: Any) -> bool:
    if not _is_object(value):
        return bool(value == "*")
    return bool(value) and all(_is_principal(kind, each) for kind, named in value.items() for each in _listed(named))


def _is_principal(kind: str, name: Any) -> bool:
    if not isinstance(name, str):
        return False
    if kind == "AWS":
        return name == "*" or bool(_ACCOUNT.fullmatch(name) or _PRINCIPAL_ARN.fullmatch(name))
    return kind == "Service" and _SERVICE.fullmatch(name) is not None


def _are_conditions(value: Any) -> bool:
    return _is_object(value) and all(
        _is_object(keys) and all(isinstance(each, str | int) for one in keys.values() for each in _listed(one))
        for keys in value.values()
    )
