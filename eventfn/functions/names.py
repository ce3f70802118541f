"""How a request names a function: name, name:qualifier, account:function:name, the whole ARN, and ?Qualifier=.

PURE. The pattern of the whole is the service model's and was checked before; here is what it means.
Source: functions-api, "Names, ARNs, qualifiers".
"""

from __future__ import annotations

import functools
import re

import msgspec

from eventfn.functions.refusals import Refusal, invalid, missing

_NAMED = re.compile(
    r"(?:arn:aws[a-zA-Z-]*:lambda:)?(?:(?P<region>(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?"
    r"(?:(?P<account>\d{12}):)?(?:function:)?(?P<name>[a-zA-Z0-9_.-]+)"
    r"(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9_$-]+))?"
)
_NUMBER = re.compile(r"[0-9]+")


class Named(msgspec.Struct, frozen=True):
    """A function as a request names it; `qualifier` is None when it names none."""

    name: str
    qualifier: str | None = None

    @property
    def reference(self) -> str:
        """As the registry and the bus have it."""
        return self.name if self.qualifier is None else f"{self.name}:{self.qualifier}"


@functools.lru_cache(maxsize=512)  # every Invoke asks
def named(given: str, qualifier: str | None = None, *, region: str, account: str) -> Named:
    """`given` is a request's FunctionName, `qualifier` its Qualifier. Raises Refusal: they contradict each other, or it
    is a function of another region or account."""
    found = _NAMED.fullmatch(given)
    if found is None:
        raise Refusal(
            "ValidationException",
            f"1 validation error detected: Value '{given}' at 'functionName' failed to satisfy constraint: "
            f"Member must satisfy regular expression pattern: {_NAMED.pattern}",
        )
    if found["region"] not in (None, region):
        raise missing(f"Functions from '{found['region']}' are not reachable in this region ('{region}')")
    if found["account"] not in (None, account):
        raise Refusal("AccessDeniedException", None)
    own = found["qualifier"]
    if own is not None and qualifier is not None and own != qualifier:
        raise invalid("The derived qualifier from the function name does not match the specified qualifier.")
    return Named(found["name"], own or qualifier)


def is_number(qualifier: str) -> bool:
    return _NUMBER.fullmatch(qualifier) is not None


def function_arn(region: str, account: str, name: str, qualifier: str | None = None) -> str:
    arn = f"arn:aws:lambda:{region}:{account}:function:{name}"
    return arn if qualifier is None else f"{arn}:{qualifier}"
