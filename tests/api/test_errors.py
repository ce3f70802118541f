"""Each code with its status, its spelling and its type."""

from __future__ import annotations

import pytest

from eventfn.api.errors import api_error, lambda_error, too_many, validation
from eventfn.api.service_model import service_model
from eventfn.errors import FunctionNotReady
from eventfn.functions.refusals import Refusal

# Of the contract's table, where it says "Message".
CAPITAL = {
    "AccessDeniedException",
    "CodeSigningConfigNotFoundException",
    "CodeVerificationFailedException",
    "EC2AccessDeniedException",
    "EFSIOException",
    "ENINotReadyException",
    "InvalidCodeSignatureException",
    "InvalidRuntimeException",
    "InvalidSecurityGroupIDException",
    "InvalidSubnetIDException",
    "InvalidZipFileException",
    "KMSNotFoundException",
    "RecursiveInvocationException",
    "ResourceInUseException",
    "ResourceNotFoundException",
    "ServiceException",
    "SnapStartException",
    "SubnetIPAddressLimitReachedException",
}
SMALL = {
    "CodeStorageExceededException",
    "InvalidParameterValueException",
    "InvalidRequestContentException",
    "PolicyLengthExceededException",
    "PreconditionFailedException",
    "ProvisionedConcurrencyConfigNotFoundException",
    "RequestTooLargeException",
    "ResourceConflictException",
    "ResourceNotReadyException",
    "SerializedRequestEntityTooLargeException",
    "TooManyRequestsException",
    "UnsupportedMediaTypeException",
    "ValidationException",
}
STATUS = {
    "InvalidParameterValueException": 400,
    "ResourceInUseException": 400,
    "ResourceNotFoundException": 404,
    "ProvisionedConcurrencyConfigNotFoundException": 404,
    "AccessDeniedException": 403,
    "ResourceConflictException": 409,
    "PreconditionFailedException": 412,
    "RequestTooLargeException": 413,
    "RequestEntityTooLargeException": 413,
    "UnsupportedMediaTypeException": 415,
    "TooManyRequestsException": 429,
    "ServiceException": 500,
    "ResourceNotReadyException": 502,
    "KMSNotFoundException": 502,
}


@pytest.mark.parametrize("code", sorted(CAPITAL | SMALL))
def test_the_spelling_is_the_contracts(code: str) -> None:
    body = lambda_error(code, "text").body
    assert body["Message" if code in CAPITAL else "message"] == "text"


@pytest.mark.parametrize(("code", "status"), STATUS.items())
def test_the_status_is_the_contracts(code: str, status: int) -> None:
    error = lambda_error(code, "text")
    assert (error.status, error.headers["x-amzn-ErrorType"]) == (status, code)


def test_every_exception_of_the_model_can_be_told() -> None:
    for code, shape in service_model().shapes.items():
        if shape.error is not None:
            assert lambda_error(code, "text").body["Type"] in ("User", "Service")


def test_the_type_is_left_out_where_it_is_so_recorded() -> None:
    assert lambda_error("ResourceConflictException", "text").body == {"Type": "User", "message": "text"}
    assert lambda_error("ResourceNotFoundException", "text", typed=False).body == {"Message": "text"}
    assert lambda_error("AccessDeniedException", None).body == {"Message": None}
    assert validation(["Value null at 'x' failed"]).body == {
        "message": "1 validation error detected: Value null at 'x' failed"
    }
    assert too_many("ConcurrentInvocationLimitExceeded", 1).body == {
        "Reason": "ConcurrentInvocationLimitExceeded",
        "Type": "User",
        "message": "Rate Exceeded.",
    }


def test_refusals_of_rules_are_told_in_their_own_words() -> None:
    told = api_error(Refusal("PreconditionFailedException", "stale"))
    assert (told.status, told.body) == (412, {"Type": "User", "message": "stale"})
    told = api_error(FunctionNotReady("f", "Pending"))
    assert told.status == 409
    assert told.body["message"] == (
        "The operation cannot be performed at this time. The function is currently in the following state: Pending"
    )
