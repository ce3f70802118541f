"""How the account's concurrency is divided among functions: what may be reserved, and what may be provisioned.

    the account's limit = reserved by functions + provisioned by others + what all share ("unreserved", 100 or more)

PURE. Who may run now is bus/admission.py's affair, which environments are kept ready the pool's.
"""

from __future__ import annotations

from collections.abc import Iterable

from eventfn.functions.managed import LATEST, ManagedFunction
from eventfn.functions.refusals import conflict, invalid

LEAST_UNRESERVED = 100


def taken(function: ManagedFunction) -> int:
    """What a function takes away from the others."""
    return function.reserved if function.reserved is not None else total_provisioned(function)


def total_provisioned(function: ManagedFunction, without: str | None = None) -> int:
    return sum(each.requested for qualifier, each in function.provisioned.items() if qualifier != without)


def unreserved(limit: int, functions: Iterable[ManagedFunction]) -> int:
    return limit - sum(taken(function) for function in functions)


def refuse_reserved(function: ManagedFunction, wanted: int, limit: int, others: Iterable[ManagedFunction]) -> None:
    """Raises Refusal when the function cannot have so much. `others` are all but this one."""
    if wanted < (provisioned := total_provisioned(function)):
        raise invalid(
            f" ReservedConcurrentExecutions  {wanted} should not be lower than function's total provisioned "
            f"concurrency [{provisioned}]."
        )
    if unreserved(limit, others) - wanted < _least(limit):
        raise invalid(
            "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
            f"below its minimum value of [{_least(limit)}].",
            typed=False,
        )


def refuse_provisioned(
    function: ManagedFunction, qualifier: str, wanted: int, limit: int, others: Iterable[ManagedFunction]
) -> None:
    """Raises Refusal when this version or alias cannot have so much provisioned."""
    alias = function.aliases.get(qualifier)
    number = qualifier if alias is None else alias.function_version
    pointing = {
        each.name
        for each in function.aliases.values()
        if each.name in function.provisioned and each.function_version == number
    }
    if alias is not None and (number in function.provisioned or pointing - {qualifier}):
        raise conflict(
            "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
        )
    if alias is None and pointing:
        raise conflict("Version is pointed by a Provisioned Concurrency alias")
    total = wanted + total_provisioned(function, without=qualifier)
    if function.reserved is not None:
        if total > function.reserved:
            raise invalid(
                "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for "
                "function"
            )
        return
    left = unreserved(limit, others)
    if total > left:
        raise invalid(
            f"Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [{left}].",
            typed=False,
        )
    if left - total < _least(limit):
        raise invalid(
            "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its "
            f"minimum value of [{_least(limit)}].",
            typed=False,
        )


def refuse_unpublished(qualifier: str | None, message: str) -> None:
    if qualifier in (None, LATEST):
        raise invalid(message)


def _least(limit: int) -> int:
    """A node that has no more than this for all can give away all of it."""
    return LEAST_UNRESERVED if limit > LEAST_UNRESERVED else 0
