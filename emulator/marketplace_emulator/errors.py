"""The errors that callers of the AWS APIs and of the admin API receive.

ServiceError  an AWS error: code, HTTP status, message
AdminError    an admin request that cannot be carried out, with a hint; BadRequestError is the one for a wrong value
"""

from functools import partial
from typing import Any


class ServiceError(Exception):
    """An AWS error in JSON form; `status` follows the service model (400 unless it says otherwise)."""

    def __init__(self, code: str, message: str, status: int = 400, **members: Any) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.members = members


validation = partial(ServiceError, "ValidationException")
"""The error for input that does not fit the service model."""
serialization = partial(ServiceError, "SerializationException")
"""The error for a body that is not JSON, or a member of the wrong JSON type."""


class AdminError(Exception):
    """An admin request that cannot be carried out; `hint` says what to do."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.hint = hint


class BadRequestError(AdminError, ValueError):
    """A value that does not fit, answered 400."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(400, message, hint)
