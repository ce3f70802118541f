"""What AWS answers when it refuses, as one error with the code that tells why.

PURE.
"""

from __future__ import annotations

from eventfn.errors import ConnectorError

THROTTLES = frozenset(
    {
        "KMSThrottlingException",
        "KmsThrottled",
        "LimitExceededException",
        "OverLimit",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "Throttled",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
UNKNOWN_CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "MissingAuthenticationToken",
        "NoCredentials",  # ours: there are none at all
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)


class AwsError(ConnectorError):
    """AWS has refused an operation. `code` is its own word for it, without the namespace that older services add:
    "NonExistentQueue", "ResourceNotFoundException"."""

    def __init__(self, operation: str, code: str, message: str, status: int) -> None:
        self.operation = operation
        self.code = code
        self.status = status
        super().__init__(f"{operation}: {_words(code, message)}")

    @property
    def throttled(self) -> bool:
        return self.code in THROTTLES or self.status == 429

    @property
    def credentials(self) -> bool:
        """Nothing is wrong with what was asked: who asks is not known, or not any more."""
        return self.code in EXPIRED or self.code in UNKNOWN_CREDENTIALS

    @property
    def passing(self) -> bool:
        """The same request may succeed later, with nobody changing it."""
        return self.throttled or self.credentials or self.status >= 500


def short_code(code: str) -> str:
    return code.rpartition(".")[2].rpartition("#")[2]


def _words(code: str, message: str) -> str:
    if code in EXPIRED:
        return f"the AWS credentials have expired ({code}): renew them, they are read again on the next try"
    if code == "NoCredentials":
        return (
            "no AWS credentials were found: set access_key_id and secret_access_key or a profile, "
            "or give the node AWS_ACCESS_KEY_ID, ~/.aws/credentials or a role"
        )
    if code in UNKNOWN_CREDENTIALS:
        return f"the AWS credentials are not accepted ({code}: {message}): correct them, they are read again"
    return f"{code}: {message}" if message else code
