"""What the client raises."""

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Everything that this package raises on purpose."""


class NoCredentialsError(ClientError):
    """There are no AWS credentials to sign with. botocore looks for them where the AWS SDKs do."""


class NoAnswerError(ClientError):
    """The API gave no answer that says anything: no connection, a timeout, a status of 429 or 5xx, a body that can't
    be read. Repeating is safe. `retry_after` is in seconds, if the answer named it; `is_asked_to_wait`: the API said
    that it is too busy."""

    def __init__(self, message: str, retry_after: float | None = None, *, is_asked_to_wait: bool = False) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.is_asked_to_wait = is_asked_to_wait


class ApiError(ClientError):
    """The API refused the request. `code` is stable (docs/integration.md lists the codes) and empty in an answer of API
    Gateway itself; `details` are the other members of the error."""

    def __init__(self, status: int, code: str, message: str, details: Mapping[str, Any]) -> None:
        super().__init__(f"{status} {code or 'from API Gateway'}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.details = details
