"""`arn:aws:...` as a destination: Lambda's own way to name one. Each service's destination does the work."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import ClassVar

import msgspec

from eventfn.destination import WRITTEN, Delivery, Destination, DestinationContext, OutgoingRecord, Rejected, RetryAfter
from eventfn.errors import EngineError, FunctionNotFound, PayloadTooLarge, ShuttingDown, Throttled
from eventfn_aws.arns import Arn
from eventfn_aws.client import AwsSettings

_FUNCTION = re.compile(r"function:(?P<name>[A-Za-z0-9_-]{1,64})")

# Service -> package and class, imported when an ARN names it, and what the target is for that class.
_SERVICES: dict[str, tuple[str, str, Callable[[Arn], str]]] = {
    "kinesis": ("eventfn_aws.kinesis", "KinesisDestination", str),
    "s3": ("eventfn_aws.s3", "S3Destination", lambda arn: f"//{arn.resource}"),
    "sns": ("eventfn_aws.sns", "SnsDestination", str),
    "sqs": ("eventfn_aws.sqs", "SqsDestination", str),
}


class ArnDestination:
    Settings: ClassVar[type[msgspec.Struct]] = AwsSettings
    idempotent: ClassVar[bool] = False  # most are not

    @classmethod
    def check(cls, target: str, settings: AwsSettings) -> str | None:
        arn = Arn.parse(f"arn:{target}")
        if arn is None:
            return 'expected an ARN such as "arn:aws:sqs:eu-west-1:123456789012:jobs"'
        if arn.service == "lambda":
            if _FUNCTION.fullmatch(arn.resource):
                return None
            return 'expected the ARN of a function of this project, without a version: "...:function:NAME"'
        if arn.service not in _SERVICES:
            return f"records cannot be sent to {arn.service}: expected {', '.join(sorted(_SERVICES))} or lambda"
        service, target = _of(arn)
        return service.check(target, _settings(service, settings))

    def __init__(self, target: str, settings: AwsSettings, context: DestinationContext) -> None:
        arn = Arn.parse(f"arn:{target}")
        assert arn is not None, "the host has checked it"
        if function := _FUNCTION.fullmatch(arn.resource) if arn.service == "lambda" else None:
            self._destination: Destination = _Function(function["name"], settings, context)
        else:
            service, target = _of(arn)
            self._destination = service(target, _settings(service, settings), context)

    async def connect(self) -> None:
        await self._destination.connect()

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        return await self._destination.write(records)

    async def close(self, deadline: float) -> None:
        await self._destination.close(deadline)


def _of(arn: Arn) -> tuple[type[Destination], str]:
    package, name, target = _SERVICES[arn.service]
    service: type[Destination] = getattr(import_module(package), name)
    return service, target(arn)


def _settings(service: type[Destination], settings: AwsSettings) -> msgspec.Struct:
    """[destinations.arn] says how to reach AWS; all else is as that service has it by itself."""
    return service.Settings(**msgspec.structs.asdict(settings))


class _Function:
    """A function of this project, submitted to: the account and the region in an ARN are not looked at."""

    Settings: ClassVar[type[msgspec.Struct]] = AwsSettings
    idempotent: ClassVar[bool] = True

    @classmethod
    def check(cls, target: str, settings: AwsSettings) -> str | None:
        return None

    def __init__(self, target: str, settings: AwsSettings, context: DestinationContext) -> None:
        self._function = target
        self._submit = context.submit

    async def connect(self) -> None:
        """There is nothing outside to connect to."""

    async def write(self, records: Sequence[OutgoingRecord]) -> list[Delivery]:
        return [await self._write(record) for record in records]

    async def _write(self, record: OutgoingRecord) -> Delivery:
        try:
            await self._submit(self._function, record.payload, record.id)
        except (FunctionNotFound, PayloadTooLarge) as error:
            return Rejected(str(error))
        except Throttled as error:
            return RetryAfter(f"{self._function} is throttled: {error.reason}", after=error.retry_after)
        except (ShuttingDown, EngineError) as error:
            return RetryAfter(str(error) or type(error).__name__)
        return WRITTEN

    async def close(self, deadline: float) -> None:
        """Nothing is open."""
